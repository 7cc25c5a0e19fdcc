"""The README's table of checks: every check that a test makes fail has a row, and its sentences were said in a test."""

from __future__ import annotations

import re

import pytest

from ci.paths import CHECKOUT
from tests.doctor.conftest import RAN, SAID

SOURCES = {"test_cluster.py", "test_host.py", "test_images.py", "test_network.py", "test_program.py"}


def rows() -> list[tuple[str, str]]:
    """Check and sentence of each row; a row without a check is of the one above."""
    text = (CHECKOUT / "ci/doctor/README.md").read_text().partition("| check | fault")[2].partition("\n\n")[0]
    found: list[tuple[str, str]] = []
    for line in text.splitlines()[2:]:
        check, _, sentence = (cell.strip() for cell in line.strip("|").split(" | "))
        found.append((check.replace("`<name>`", "").strip() or found[-1][0], sentence))
    return found


@pytest.fixture
def said(request: pytest.FixtureRequest) -> set[tuple[str, str]]:
    if request.config.option.keyword or not RAN >= SOURCES:
        pytest.skip("not all tests of this folder ran")
    return SAID


def test_every_sentence_of_the_table_was_said_of_a_fault(said: set[tuple[str, str]]) -> None:
    for check, sentence in rows():
        pattern = ".*".join(re.escape(part.strip()) for part in sentence.split("..."))
        spoken = [what for name, what in said if name.startswith(check) and re.fullmatch(pattern, what, re.DOTALL)]
        assert spoken, f"{check}: no test makes it say `{sentence}`"


def test_every_check_that_fails_in_a_test_has_a_row(said: set[tuple[str, str]]) -> None:
    known = {check for check, _ in rows()}
    lost = {name for name, _ in said if not any(name == one or name.startswith(f"{one} ") for one in known)}
    assert lost == set(), "ci/doctor/README.md has no row for them"
