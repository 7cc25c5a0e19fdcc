"""Check the workflow files with actionlint, compiled once into the cache from its Go module; offline afterwards."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from ci.console import main
from ci.gocache import compiled
from ci.paths import CHECKOUT

MODULE = Path(__file__).parent
PACKAGE = "github.com/rhysd/actionlint/cmd/actionlint"


def check(*files: Path) -> int:
    """Print what is wrong with workflow files; returns 0 if nothing is.

    The scripts in them are not looked at: they are `make` targets, and programs that would do so differ by machine.

    Raises:
        Failure: there is no Go toolchain, or it failed.
    """
    words: list[str | Path] = [compiled(MODULE, PACKAGE, "actionlint"), "-shellcheck=", "-pyflakes=", *files]
    return subprocess.run(words, check=False).returncode


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.actionlint", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="workflow files (default: all of the checkout)")
    files = parser.parse_args().files
    return check(*(files or sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))))


if __name__ == "__main__":
    main(_main)
