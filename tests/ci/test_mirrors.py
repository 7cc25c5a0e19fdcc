"""The Debian base comes from the mirrors that this machine's apt is configured with, or from those that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.common import debian
from ci.common.console import Failure

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
OFF = """# deb http://old.example/debian trixie main
  #deb http://old.example/debian-security trixie-security main
deb-src http://sources.example/debian trixie main

Types: deb
# retired
Enabled: no
URIs: http://old.example/debian http://old.example/debian-security
Suites: trixie

"""
OTHER = "deb https://packages.example/tools stable main\ndeb https://apt.example/debian-tools stable main\n"


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose /etc/apt is empty; returns that folder."""
    monkeypatch.setattr(debian, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    monkeypatch.delenv("HOUSE_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("HOUSE_DEBIAN_SECURITY_MIRROR", raising=False)
    folder = tmp_path / "etc" / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("file", ["sources.list", "sources.list.d/debian.sources"])
@pytest.mark.parametrize("text", [ONE_LINE, DEB822, OTHER + ONE_LINE, DEB822 + OTHER, OFF + ONE_LINE, OFF + DEB822])
def test_both_mirrors_are_read_from_either_form(file: str, text: str, apt: Path) -> None:
    (apt / file).write_text(text)
    assert debian.mirrors() == (MAIN, SECURITY)


def test_the_environment_overrides_each_of_them(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (apt / "sources.list").write_text(ONE_LINE)
    monkeypatch.setenv("HOUSE_DEBIAN_MIRROR", "http://near.example/debian")
    assert debian.mirrors() == ("http://near.example/debian", SECURITY)
    monkeypatch.setenv("HOUSE_DEBIAN_SECURITY_MIRROR", "http://near.example/security")
    assert debian.mirrors() == ("http://near.example/debian", "http://near.example/security")


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_DEBIAN_MIRROR", MAIN)
    monkeypatch.setenv("HOUSE_DEBIAN_SECURITY_MIRROR", SECURITY)
    assert debian.mirrors() == (MAIN, SECURITY)


@pytest.mark.parametrize("text", ["", OTHER, OFF, ONE_LINE.splitlines()[0], ONE_LINE.splitlines()[1]])
def test_a_missing_one_is_refused_with_the_remedy(text: str, apt: Path) -> None:
    (apt / "sources.list").write_text(text)
    with pytest.raises(Failure, match="set HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR"):
        debian.mirrors()
