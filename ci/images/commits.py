"""Which commit an image is of: the last that changed what it is made from, so that no other changes its pods."""

from __future__ import annotations

from pathlib import Path

from ci.console import Failure
from ci.git import git
from ci.images.catalog import Image
from ci.paths import CHECKOUT

UNKNOWN = "unknown"  # no history: a tarball, or a clone that is too shallow
DIRTY = "-dirty"
RECIPE = ("ci/images/base.py", "ci/images/catalog.py")
VERSION = ("-G^version = ", "--", "pyproject.toml")  # of that file, no other line goes into an image


def commit_of(image: Image, checkout: Path = CHECKOUT) -> str:
    """The full hash, with `-dirty` where an input differs from that commit; `unknown` without Git's history."""
    services = [f"services/{path}" for path in image.inputs]
    inputs = ["--", *RECIPE, *services, ":(exclude,glob)**/__pycache__/**"]
    try:
        changed = {git(checkout, "log", "-1", "--format=%H", *words) for words in (inputs, VERSION)}
        if "" in changed:
            return UNKNOWN
        newest = git(checkout, "merge-base", "--independent", *changed).split()
        commit = newest[0] if len(newest) == 1 else git(checkout, "rev-parse", "HEAD")  # on two branches, merged
        if commit in _beginnings(checkout):
            return UNKNOWN
        dirty = git(checkout, "status", "--porcelain", "--untracked-files=all", *inputs)
        dirty += git(checkout, "diff", "--name-only", "HEAD", *VERSION)
    except Failure:
        return UNKNOWN
    return commit + (DIRTY if dirty else "")


def traceable(commit: str) -> bool:
    """Whether a commit can be checked out to get the image again."""
    return commit not in ("", UNKNOWN) and not commit.endswith(DIRTY)


def _beginnings(checkout: Path) -> set[str]:
    """Where the history of a shallow clone is cut: those commits seem to have added every file."""
    cut = checkout / git(checkout, "rev-parse", "--git-path", "shallow")
    return set(cut.read_text().split()) if cut.exists() else set()
