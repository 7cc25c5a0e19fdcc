"""Check the workflow files with actionlint. It is compiled once into the cache, and works offline afterwards."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from ci.common.console import main
from ci.common.gocache import compiled
from ci.common.paths import CHECKOUT

MODULE = Path(__file__).parent
PACKAGE = "github.com/rhysd/actionlint/cmd/actionlint"


def check(*files: Path) -> int:
    """Print errors in workflow files; returns 0 if there are none.

    Scripts in workflows are not checked: they are `make` targets, and shellcheck and pyflakes differ by machine.

    Raises:
        Failure: there is no Go toolchain, or it failed.
    """
    words: list[str | Path] = [compiled(MODULE, PACKAGE, "actionlint"), "-shellcheck=", "-pyflakes=", *files]
    return subprocess.run(words, check=False).returncode


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.checks.actionlint", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="workflow files (default: all of the checkout)")
    files = parser.parse_args().files
    return check(*(files or sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))))


if __name__ == "__main__":
    main(_main)
