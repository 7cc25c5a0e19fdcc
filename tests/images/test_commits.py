"""The commit of an image is the last one that changed its inputs. It is `unknown` without that history."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ci.common.console import run
from ci.common.git import git
from ci.images import catalog, commits
from ci.images.catalog import IMAGES

WHO = {f"GIT_{role}_{key}": "somebody" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
UI, PREDICTOR = IMAGES["ui"], IMAGES["predictor"]


def commit(checkout: Path, text: str = "a change") -> str:
    """Commit everything; returns the hash."""
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "--no-verify", "--no-gpg-sign", "--allow-empty", "-m", text, env=WHO)
    return git(checkout, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with what two of the images are made from, and no configuration but its own."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "checkout"
    for path in (
        "ui/src/ui/page.py",
        "predictor/src/predictor/app.py",
        "core/src/core/rows.py",
        "postgres/entrypoint.sh",
    ):
        (folder / "services" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "services" / path).write_text("one = 1\n")
    for path in (
        "services/Dockerfile",
        "services/ui/Dockerfile",
        "services/predictor/Dockerfile",
        "services/postgres/Dockerfile",
    ):
        (folder / path).write_text("FROM scratch\n")
    (folder / "ci" / "images").mkdir(parents=True)
    (folder / "ci" / "images" / "catalog.py").write_text("")
    (folder / "pyproject.toml").write_text('version = "0.1.0"\n[tool.ruff]\n')
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    commit(folder)
    return folder


def test_it_is_the_last_commit_that_changed_an_input(checkout: Path) -> None:
    first = commits.commit_of(UI, checkout)
    assert first == git(checkout, "rev-parse", "HEAD")
    (checkout / "services" / "ui" / "src" / "ui" / "page.py").write_text("one = 2\n")
    second = commit(checkout)
    assert (commits.commit_of(UI, checkout), commits.commit_of(PREDICTOR, checkout)) == (second, first)


@pytest.mark.parametrize("path", ["README.md", "services/ui/README.md", "charts/values.yaml"])
def test_a_commit_that_changes_nothing_of_an_image_is_none_of_it(checkout: Path, path: str) -> None:
    before = commits.commit_of(UI, checkout)
    (checkout / path).parent.mkdir(exist_ok=True)
    (checkout / path).write_text("changed\n")
    assert commits.commit_of(UI, checkout) == before, "not committed"
    commit(checkout)
    assert commits.commit_of(UI, checkout) == before, "committed"


def test_of_the_projects_file_only_the_version_counts(checkout: Path) -> None:
    before, project = commits.commit_of(UI, checkout), checkout / "pyproject.toml"
    project.write_text(project.read_text() + "line-length = 120\n")
    assert commits.commit_of(UI, checkout) == before
    commit(checkout)
    assert commits.commit_of(UI, checkout) == before
    project.write_text(project.read_text().replace("0.1.0", "0.2.0"))
    assert commits.commit_of(UI, checkout) == f"{before}-dirty"
    assert commit(checkout) == commits.commit_of(UI, checkout)


@pytest.mark.parametrize("path", ["services/ui/src/ui/page.py", "services/ui/src/ui/new.py", "services/ui/Dockerfile"])
def test_uncommitted_inputs_make_the_commit_dirty(checkout: Path, path: str) -> None:
    before = commits.commit_of(UI, checkout)
    (checkout / path).write_text("two = 2\n")
    assert commits.commit_of(UI, checkout) == f"{before}-dirty"
    assert commits.commit_of(PREDICTOR, checkout) == before
    assert commit(checkout) == commits.commit_of(UI, checkout)


def test_only_images_with_a_python_environment_follow_the_file_that_makes_it(checkout: Path) -> None:
    before = commits.commit_of(IMAGES["postgres"], checkout)
    (checkout / "services" / "Dockerfile").write_text("FROM another\n")
    after = commit(checkout)
    assert (commits.commit_of(IMAGES["postgres"], checkout), commits.commit_of(UI, checkout)) == (before, after)


def test_a_removed_input_and_a_staged_one_make_the_commit_dirty(checkout: Path) -> None:
    before = commits.commit_of(UI, checkout)
    page = checkout / "services" / "ui" / "src" / "ui" / "page.py"
    page.unlink()
    assert commits.commit_of(UI, checkout) == f"{before}-dirty"
    page.write_text("one = 3\n")
    git(checkout, "add", "-A")
    assert commits.commit_of(UI, checkout) == f"{before}-dirty"


def test_bytecode_is_no_input(checkout: Path) -> None:
    before = commits.commit_of(UI, checkout)
    (checkout / ".gitignore").unlink()
    cache = checkout / "services" / "ui" / "src" / "ui" / "__pycache__"
    cache.mkdir()
    (cache / "page.cpython-313.pyc").write_text("bytecode of a local run")
    assert commits.commit_of(UI, checkout) == before


def test_what_two_merged_branches_changed_is_of_a_commit_that_has_both(checkout: Path) -> None:
    page, project = checkout / "services" / "ui" / "src" / "ui" / "page.py", checkout / "pyproject.toml"
    git(checkout, "switch", "-q", "-c", "version")
    project.write_text('version = "0.2.0"\n')
    commit(checkout)
    git(checkout, "switch", "-q", "main")
    page.write_text("one = 2\n")
    commit(checkout)
    git(checkout, "merge", "-q", "--no-edit", "version", env=WHO)
    assert commits.commit_of(UI, checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_tarball_has_no_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    assert commits.commit_of(UI, checkout) == "unknown"


def test_a_tarball_in_a_foreign_repository_has_none_of_its_commits(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    git(checkout.parent, "init", "-q", "-b", "main", ".")
    git(checkout.parent, "commit", "-q", "--allow-empty", "-m", "foreign", env=WHO)
    assert commits.commit_of(UI, checkout) == "unknown"


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert commits.commit_of(UI, checkout) == "unknown"


def test_a_shallow_clone_knows_the_commits_that_it_has_and_no_others(checkout: Path, tmp_path: Path) -> None:
    """Its oldest commit seems to have added every file."""
    (checkout / "services" / "ui" / "src" / "ui" / "page.py").write_text("one = 2\n")
    second = commit(checkout)
    commit(checkout, "a third one")
    for depth, wanted in ((1, "unknown"), (2, "unknown"), (3, second)):
        clone = tmp_path / f"clone-{depth}"
        run(["git", "clone", "-q", "--depth", str(depth), f"file://{checkout}", clone])
        assert commits.commit_of(UI, clone) == wanted, f"depth {depth}"


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_every_image_of_this_checkout_has_an_answer(image: catalog.Image) -> None:
    commit = commits.commit_of(image)
    assert commit == commits.UNKNOWN or len(commit.removesuffix(commits.DIRTY)) == 40
