"""The commit of an image: the last one that changed its inputs. Other commits do not change its pods."""

from __future__ import annotations

from pathlib import Path

from ci.common.console import Failure
from ci.common.git import git
from ci.common.paths import CHECKOUT
from ci.images.catalog import Image

UNKNOWN = "unknown"  # without history: a tarball, or a clone that is too shallow
DIRTY = "-dirty"
RECIPE = ("ci/images/base.py", "ci/images/catalog.py")
VERSION = ("-G^version = ", "--", "pyproject.toml")  # only this line of the file is an input of images


def commit_of(image: Image, checkout: Path = CHECKOUT) -> str:
    """The full hash, with `-dirty` if an input differs from that commit; `unknown` without Git history."""
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
    """First commits of a shallow clone, which seem to add every file."""
    cut = checkout / git(checkout, "rev-parse", "--git-path", "shallow")
    return set(cut.read_text().split()) if cut.exists() else set()
