"""`make` lists the common targets and `make help-all` lists every target."""

from __future__ import annotations

import re
import subprocess

import pytest

from ci.common.paths import CHECKOUT

MAKEFILE = (CHECKOUT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))
PHONY = {name for line in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in line.split()}


def listed(*words: str) -> set[str]:
    """Names of the targets that make prints."""
    done = subprocess.run(["make", "--silent", *words], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  make ([a-z0-9-]+) +\S", done.stdout, re.MULTILINE))


def test_every_target_is_phony_and_has_a_help_text() -> None:
    assert listed("help-all") == TARGETS == PHONY


def test_make_alone_lists_a_screen_of_common_targets() -> None:
    common = listed()
    assert {"up", "down", "demo", "check", "test", "help-all"} <= common < TARGETS
    assert len(common) <= 20


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_help_text_is_a_short_plain_line(target: str) -> None:
    [text] = re.findall(rf"^{target}:.*?###? (.+)$", MAKEFILE, re.MULTILINE)
    assert text[0].islower(), "begin with a verb in lower case"
    assert not text.endswith(".")
    assert len(text) <= 125
