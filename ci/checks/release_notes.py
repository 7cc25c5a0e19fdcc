"""Print the section of a version in CHANGELOG.md, as notes of its release.

python -m ci.checks.release_notes 0.2.0       v0.2.0, the name of the Git tag, works as well
"""

from __future__ import annotations

import argparse
import re

from ci.common.console import Failure, main
from ci.common.paths import CHECKOUT
from ci.images.catalog import VERSION


def notes(version: str, changelog: str) -> str:
    """The section of a version, without its heading.

    Raises:
        Failure: there is no such section, it is empty, or the checkout has another version.
    """
    version = version.removeprefix("v")
    if not version:
        raise Failure(f"no version: run `make notes VERSION={VERSION}`")
    if version != VERSION:
        raise Failure(f"the tag says {version} and pyproject.toml {VERSION}: change the one that is wrong")
    section = re.search(rf"^## \[{re.escape(version)}\].*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if not section or not section[1].strip():
        raise Failure(f"CHANGELOG.md has no section for {version}: rename `## [Unreleased]` to it, with a date")
    return section[1].strip() + "\n"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.release_notes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", help="version in CHANGELOG.md, or its tag")
    print(notes(parser.parse_args().version, (CHECKOUT / "CHANGELOG.md").read_text()), end="", flush=True)


if __name__ == "__main__":
    main(_main)
