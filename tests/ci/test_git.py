"""Git in a checkout, and the files of a tree without Git."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.common.git import files, git


def test_tree_without_git_lists_files_but_no_generated_ones(tmp_path: Path) -> None:
    for name in ("a.py", "docs/b.md", ".venv/lib/c.py", "build/d.tar", "docs/__pycache__/e.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert files(tmp_path) == ["a.py", "docs/b.md"]


def test_checkout_lists_files_that_git_tracks(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("")
    (tmp_path / "b.py").write_text("")
    git(tmp_path, "add", "a.py")
    assert files(tmp_path) == ["a.py"]


def test_git_in_a_tree_without_git_fails_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"^`git log` needs a Git checkout, and .* is not one: clone the repository$"):
        git(tmp_path, "log")
