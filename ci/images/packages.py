"""Debian packages in the images: the recorded ones (`debian.lock`), and those of a build.

A mirror keeps only the newest version of a package in a stable suite, so older versions cannot be installed. Versions
are therefore recorded, not pinned: a build uses the mirror's version and prints differences from the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ci.images import archive

LOCK = Path(__file__).with_name("debian.lock")
STATUS = "var/lib/dpkg/status"  # of the base; beside it `status.d/`, a file per package that an image adds to it
HEADER = "# Written by `python -m ci.images record`; do not edit. Debian's packages in the base and in postgres.\n"


def installed(image: Path) -> dict[str, str]:
    """Versions of Debian packages in an image's archive, by name."""
    versions: dict[str, str] = {}
    for member, content in archive.files(image):
        if member.name == STATUS or member.name.startswith(f"{STATUS}.d/"):
            versions |= parse(content.read().decode())
    return versions


def parse(status: str) -> dict[str, str]:
    """Versions of installed packages in a dpkg status file, by name."""
    return {fields["Package"]: fields["Version"] for fields in _installed(status)}


def sources(status: str) -> dict[str, str]:
    """Versions of their source packages, by name. Debian's security advisories use these names."""
    versions = {}
    for fields in _installed(status):
        name, _, version = fields.get("Source", fields["Package"]).partition(" ")
        versions[name] = version.strip("()") or fields["Version"]
    return versions


def _installed(status: str) -> Iterator[dict[str, str]]:
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == "install ok installed":
            yield fields


def differences(recorded: Mapping[str, str], built: Mapping[str, str]) -> list[str]:
    """A line for each package that differs from the record."""
    lines = []
    for name in sorted({*recorded, *built}):
        before, now = recorded.get(name), built.get(name)
        if before is None:
            lines.append(f"{name} {now} is new")
        elif now is None:
            lines.append(f"{name} {before} is gone")
        elif before != now:
            lines.append(f"{name} is {now}, recorded is {before}")
    return lines


def read() -> dict[str, str]:
    """The record."""
    lines = (line for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def write(built: Mapping[str, str]) -> None:
    """Record the versions of a build."""
    LOCK.write_text(HEADER + "".join(f"{name}={version}\n" for name, version in sorted(built.items())))
