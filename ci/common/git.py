"""Runs Git in a checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ci.common.console import Failure, run

# Folders of generated files. Git ignores them; a tree without Git has no other way to know.
GENERATED = {".git", ".venv", "build", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}


def git(
    checkout: Path, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None, check: bool = True
) -> str:
    """Run Git in a checkout and return its output, with `env` on top of the environment.

    Raises:
        Failure: Git is not installed, the folder is not a Git checkout, or Git failed (unless `check` is false).
    """
    command = ("git", "-C", str(checkout), *words)
    try:
        return run(command, stdin=stdin, env={**os.environ, **(env or {})}, check=check).stdout.strip()
    except Failure as failed:
        if "not a git repository" not in str(failed):
            raise
        raise Failure(
            f"`git {words[0]}` needs a Git checkout, and {checkout} is not one: clone the repository"
        ) from failed


def files(checkout: Path) -> list[str]:
    """Paths of the files of a checkout: those that Git tracks, or all files in a tree without Git."""
    if (checkout / ".git").exists():
        return git(checkout, "ls-files").splitlines()
    return sorted(str(path.relative_to(checkout)) for path in _walk(checkout))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.name not in GENERATED:
                yield from _walk(path)
        else:
            yield path
