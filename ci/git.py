"""Git in the checkout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ci.console import run


def git(
    checkout: Path, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None, check: bool = True
) -> str:
    """Run Git in a checkout and return what it printed, with `env` on top of the environment.

    Raises:
        Failure: Git is not installed, or it failed (unless `check` is false).
    """
    words = ("git", "-C", str(checkout), *words)
    return run(words, stdin=stdin, env={**os.environ, **(env or {})}, check=check).stdout.strip()
