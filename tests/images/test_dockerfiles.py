"""Rules for every Dockerfile and lock under services/."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ci.images import base
from ci.images.catalog import IMAGES, SERVICES, Image

PAGES = SERVICES / "monitoring" / "prometheus" / "pages"
DOCKERFILES = sorted(path for path in SERVICES.rglob("*Dockerfile"))


def final_stage(image: Image) -> str:
    """Instructions of the last stage, after those of the environment that it may stand on."""
    files = [image.dockerfile] + (["Dockerfile"] if image.environment else [])
    return "\n".join(re.split(r"^FROM ", (SERVICES / file).read_text(), flags=re.MULTILINE)[-1] for file in files[::-1])


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_runs_as_a_numbered_user_that_is_not_root(image: Image) -> None:
    users = re.findall(r"^USER (\S+)", final_stage(image), re.MULTILINE)
    assert users, f"{image.name} runs as root: its Dockerfile has no USER"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), f"{image.name} runs as {users[-1]}: use numbers other than 0"


@pytest.mark.parametrize("file", DOCKERFILES, ids=[str(path.relative_to(SERVICES)) for path in DOCKERFILES])
def test_a_public_base_is_named_with_its_version(file: Path) -> None:
    for reference in re.findall(r"^(?:ARG \w+=|FROM )(\w[\w.:-]*/\S+)", file.read_text(), re.MULTILINE):
        assert re.fullmatch(r"docker\.io/library/\w+:[\w.-]*(\d|trixie)[\w.-]*", reference), (
            f"{file.relative_to(SERVICES)}: {reference} is another image every day"
        )


def test_every_python_package_is_installed_with_hashes() -> None:
    recipes = [base.build_dockerfile(), *(file.read_text() for file in DOCKERFILES)]
    commands = [one for recipe in recipes for one in re.findall(r"pip install (?:[^|;&\\\n]|\\\n)*", recipe)]
    assert len(commands) == 4, commands
    assert [command for command in commands if "--require-hashes" not in command] == []


def test_the_tools_that_make_the_pages_are_locked_by_hash_and_name_no_registry() -> None:
    lock = json.loads((PAGES / "package-lock.json").read_text())
    tools = {name: entry for name, entry in lock["packages"].items() if name}
    assert tools
    for name, entry in tools.items():
        assert "integrity" in entry, f"package-lock.json has no hash of {name}"
        assert "resolved" not in entry, f"package-lock.json says where {name} comes from: the machine decides that"
    assert "://" not in (PAGES / "node.lock").read_text() + (PAGES / "served.sed").read_text()


def test_every_package_that_is_replaced_has_another_hash() -> None:
    pairs = re.findall(r"^s\|(sha512-\S+?)\|(sha512-\S+?)\|$", (PAGES / "served.sed").read_text(), re.MULTILINE)
    hashes = [digest for pair in pairs for digest in pair]
    assert len(pairs) == 6
    assert len(set(hashes)) == 12, "served.sed names a hash twice"
