"""Debian's packages in the images: those that `debian.lock` records, and those of a build.

A mirror keeps only the newest version of a package in a stable suite, so an older one cannot be asked for. Versions are
therefore recorded, not demanded: a build takes what the mirror has and says what differs from the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ci.images import archive

LOCK = Path(__file__).with_name("debian.lock")
STATUS = "var/lib/dpkg/status"  # of the base; beside it `status.d/`, a file per package that an image adds to it
HEADER = "# Written by `python -m ci.images record`; do not edit. Debian's packages in the base and in postgres.\n"


def installed(image: Path) -> dict[str, str]:
    """Versions by name of Debian's packages in an image's archive."""
    found: dict[str, str] = {}
    for member, content in archive.files(image):
        if member.name == STATUS or member.name.startswith(f"{STATUS}.d/"):
            found |= parse(content.read().decode())
    return found


def parse(status: str) -> dict[str, str]:
    """Versions by name of the packages that one of dpkg's status files holds as installed."""
    return {fields["Package"]: fields["Version"] for fields in _installed(status)}


def sources(status: str) -> dict[str, str]:
    """Versions by name of the source packages that those were built from; Debian's security advisories name these."""
    found = {}
    for fields in _installed(status):
        name, _, version = fields.get("Source", fields["Package"]).partition(" ")
        found[name] = version.strip("()") or fields["Version"]
    return found


def _installed(status: str) -> Iterator[dict[str, str]]:
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == "install ok installed":
            yield fields


def differences(recorded: Mapping[str, str], built: Mapping[str, str]) -> list[str]:
    """A line for each package that is not as recorded."""
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
    """Make what was built the record."""
    LOCK.write_text(HEADER + "".join(f"{name}={version}\n" for name, version in sorted(built.items())))
