"""Release notes are the changelog's section of the tagged version only."""

from __future__ import annotations

import pytest

from ci.checks.release_notes import notes
from ci.common.console import Failure
from ci.images.catalog import VERSION

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


def test_missing_version_is_refused() -> None:
    with pytest.raises(Failure, match=rf"no version: run `make notes VERSION={VERSION}"):
        notes("", CHANGELOG)


def test_tag_of_another_version_is_refused() -> None:
    with pytest.raises(Failure, match=rf"the tag says 9\.9\.9 and pyproject\.toml {VERSION}"):
        notes("v9.9.9", CHANGELOG)


@pytest.mark.parametrize("changelog", ["## [Unreleased]\n\n- one\n", f"## [{VERSION}]\n\n## [0.0.1]\n\n- old\n"])
def test_version_without_a_section_is_refused(changelog: str) -> None:
    with pytest.raises(Failure, match=rf"CHANGELOG\.md has no section for {VERSION}"):
        notes(VERSION, changelog)
