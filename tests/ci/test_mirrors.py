"""The Debian base comes from the mirrors that this machine's apt is configured with, or from those that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.console import Failure
from ci.images import base

MAIN, SECURITY = "http://mirror.example/debian", "http://mirror.example/debian-security"
ONE_LINE = f"""deb {MAIN} trixie main
deb [signed-by=/usr/share/keyrings/debian.gpg] {SECURITY} trixie-security main
"""
DEB822 = f"""Types: deb
URIs: {MAIN}
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: {SECURITY}
Suites: trixie-security
"""
OTHER = "deb https://packages.example/tools stable main\ndeb https://apt.example/debian-tools stable main\n"


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose /etc/apt is empty; returns that folder."""
    monkeypatch.setattr(base, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    monkeypatch.delenv("HOUSE_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("HOUSE_DEBIAN_SECURITY_MIRROR", raising=False)
    folder = tmp_path / "etc" / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("file", ["sources.list", "sources.list.d/debian.sources"])
@pytest.mark.parametrize("text", [ONE_LINE, DEB822, OTHER + ONE_LINE, DEB822 + OTHER])
def test_both_mirrors_are_read_from_either_form(file: str, text: str, apt: Path) -> None:
    (apt / file).write_text(text)
    assert base.mirrors() == (MAIN, SECURITY)


def test_the_environment_overrides_each_of_them(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (apt / "sources.list").write_text(ONE_LINE)
    monkeypatch.setenv("HOUSE_DEBIAN_MIRROR", "http://near.example/debian")
    assert base.mirrors() == ("http://near.example/debian", SECURITY)
    monkeypatch.setenv("HOUSE_DEBIAN_SECURITY_MIRROR", "http://near.example/security")
    assert base.mirrors() == ("http://near.example/debian", "http://near.example/security")


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_DEBIAN_MIRROR", MAIN)
    monkeypatch.setenv("HOUSE_DEBIAN_SECURITY_MIRROR", SECURITY)
    assert base.mirrors() == (MAIN, SECURITY)


@pytest.mark.parametrize("text", ["", OTHER, ONE_LINE.splitlines()[0], ONE_LINE.splitlines()[1]])
def test_a_missing_one_is_refused_with_the_remedy(text: str, apt: Path) -> None:
    (apt / "sources.list").write_text(text)
    with pytest.raises(Failure, match="set HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR"):
        base.mirrors()
