"""Print what CHANGELOG.md says of a version, as the notes of its release.

python -m ci.notes 0.2.0       also v0.2.0, as Git's tag has it
"""

from __future__ import annotations

import argparse
import re

from ci.console import Failure, main
from ci.images.catalog import VERSION
from ci.paths import CHECKOUT


def notes(version: str, changelog: str) -> str:
    """The section of a version, without its heading.

    Raises:
        Failure: there is no such section, it is empty, or the checkout is of another version.
    """
    version = version.removeprefix("v")
    if not version:
        raise Failure(f"which version? make notes VERSION={VERSION}")
    if version != VERSION:
        raise Failure(f"the tag says {version} and pyproject.toml {VERSION}: change the one that is wrong")
    found = re.search(rf"^## \[{re.escape(version)}\].*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if not found or not found[1].strip():
        raise Failure(f"CHANGELOG.md says nothing of {version}: give `## [Unreleased]` that name and a date")
    return found[1].strip() + "\n"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.notes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="as in CHANGELOG.md, or a tag")
    print(notes(parser.parse_args().version, (CHECKOUT / "CHANGELOG.md").read_text()), end="", flush=True)


if __name__ == "__main__":
    main(_main)
