"""Newer Debian packages on a mirror give one line per package and do not fail a build."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.images import actions, base, packages
from ci.images.catalog import IMAGES, SERVICES
from ci.images.store import Built

STATUS = """Package: libc6
Status: install ok installed
Version: 2.41-12+deb13u5
Description: GNU C Library: Shared libraries
 Version: no field, but a line of the description

Package: perl
Status: deinstall ok config-files
Version: 5.40.1-6

Package: zlib1g
Status: install ok installed
Version: 1:1.3.1-1
"""
ADDED = "Package: libpq5\nStatus: install ok installed\nVersion: 17.12-0\n"
INSTALLED = {"libc6": "2.41-12+deb13u5", "zlib1g": "1:1.3.1-1"}


def tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as target:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def image(path: Path, *layers: dict[str, bytes]) -> Path:
    """An archive of one image with these layers, named by number instead of hash."""
    blobs = {f"blobs/sha256/{number}": tar(layer) for number, layer in enumerate(layers)}
    manifest = {
        "config": {"digest": "sha256:config"},
        "layers": [{"digest": f"sha256:{n}"} for n in range(len(layers))],
    }
    blobs["blobs/sha256/config"] = b"{}"
    blobs["blobs/sha256/manifest"] = json.dumps(manifest).encode()
    blobs["index.json"] = json.dumps({"manifests": [{"digest": "sha256:manifest"}]}).encode()
    path.write_bytes(tar(blobs))
    return path


def test_only_installed_packages_count() -> None:
    assert packages.parse(STATUS) == INSTALLED


def test_an_image_holds_the_packages_of_its_base_and_those_added_to_it(tmp_path: Path) -> None:
    lower = {"var/lib/dpkg/status": STATUS.encode(), "var/lib/dpkg/status-old": b"Package: old"}
    upper = {"var/lib/dpkg/status.d/libpq5": ADDED.encode(), "usr/bin/postgres": b"\x7fELF"}
    assert packages.installed(image(tmp_path / "image.tar", lower, upper)) == INSTALLED | {"libpq5": "17.12-0"}


@pytest.mark.parametrize(
    ("built", "lines"),
    [
        ({"libc6": "1", "zlib1g": "2"}, []),
        ({"libc6": "1.1", "zlib1g": "2"}, ["libc6 is 1.1, recorded is 1"]),
        ({"libc6": "1"}, ["zlib1g 2 is gone"]),
        ({"libc6": "1", "libpq5": "3", "zlib1g": "2"}, ["libpq5 3 is new"]),
        ({"bash": "5"}, ["bash 5 is new", "libc6 1 is gone", "zlib1g 2 is gone"]),
    ],
)
def test_each_difference_is_one_line(built: dict[str, str], lines: list[str]) -> None:
    assert packages.differences({"zlib1g": "2", "libc6": "1"}, built) == lines


def test_what_is_recorded_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "LOCK", tmp_path / "debian.lock")
    packages.write(INSTALLED)
    assert packages.read() == INSTALLED
    before = packages.LOCK.read_bytes()
    packages.write(dict(reversed(INSTALLED.items())))
    assert packages.LOCK.read_bytes() == before, "the order in which packages were found must not show"


def test_the_record_has_what_is_asked_for() -> None:
    (added,) = re.findall(
        r"--no-install-recommends[\\\s]+([\w. -]+)", (SERVICES / IMAGES["postgres"].dockerfile).read_text()
    )
    lacking = {*base.PACKAGES, *added.split()} - packages.read().keys()
    assert not lacking, f"debian.lock lacks {', '.join(sorted(lacking))}: run `python -m ci.images record`"


def test_a_build_says_the_differences_and_how_to_record_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "LOCK", tmp_path / "debian.lock")
    packages.write(INSTALLED)
    actions.compare([Built("ui", "1", "sha256:1", 1, 0, tmp_path), built(tmp_path, INSTALLED | {"zlib1g": "9"})])
    (line,) = capsys.readouterr().out.splitlines()
    assert "zlib1g is 9, recorded is 1:1.3.1-1 (`python -m ci.images record` records it)" in line


def test_public_bases_are_neither_compared_nor_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "LOCK", tmp_path / "debian.lock")
    packages.write(INSTALLED)
    monkeypatch.setattr(actions, "build", lambda *_: [built(tmp_path, {})])
    actions.compare([built(tmp_path, {})])
    assert capsys.readouterr().out == ""
    with pytest.raises(Failure, match="stop Docker"):
        actions.record("localhost/house-platform")
    assert packages.read() == INSTALLED


def built(file: Path, versions: dict[str, str]) -> Built:
    return Built("postgres", "1", "sha256:1", 1, 0, file, packages=versions)
