"""Release notes are the changelog's section of the tagged version, and of no other."""

from __future__ import annotations

import pytest

from ci.console import Failure
from ci.images.catalog import VERSION
from ci.notes import notes

CHANGELOG = f"""# Changelog

## [Unreleased]

- later

## [{VERSION}] - 2026-12-01

### Added

- one

## [0.0.1] - 2026-01-01

- old
"""


def test_notes_are_the_section_of_the_version() -> None:
    assert notes(f"v{VERSION}", CHANGELOG) == notes(VERSION, CHANGELOG) == "### Added\n\n- one\n"
    assert notes(VERSION, CHANGELOG.partition("## [0.0.1]")[0]) == "### Added\n\n- one\n"


def test_no_version_is_asked_for() -> None:
    with pytest.raises(Failure, match=rf"which version\? make notes VERSION={VERSION}"):
        notes("", CHANGELOG)


def test_tag_of_another_version_is_refused() -> None:
    with pytest.raises(Failure, match=rf"the tag says 9\.9\.9 and pyproject\.toml {VERSION}"):
        notes("v9.9.9", CHANGELOG)


@pytest.mark.parametrize("changelog", ["## [Unreleased]\n\n- one\n", f"## [{VERSION}]\n\n## [0.0.1]\n\n- old\n"])
def test_version_of_which_nothing_is_said_is_refused(changelog: str) -> None:
    with pytest.raises(Failure, match=rf"CHANGELOG\.md says nothing of {VERSION}"):
        notes(VERSION, changelog)
