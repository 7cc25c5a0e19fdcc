"""The search for secrets reads old commits and other branches, and does not print what it finds."""

from __future__ import annotations

import secrets
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

from ci.checks.secret_scan.findings import ACCEPTED, SecretFinding, accepted, gitleaks_program, scan
from ci.common.console import Failure
from ci.common.git import git
from ci.common.paths import CHECKOUT

needs_go = pytest.mark.skipif(not shutil.which("go"), reason="needs Go, which compiles gitleaks")


def token() -> str:
    """A new value with the form of a GitHub token. Written in parts, or this file would be a finding."""
    return "gh" + "p_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(36))


def commit(repository: Path, name: str, text: str) -> str:
    (repository / name).write_text(text)
    git(repository, "add", "--all")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", name)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit without a secret."""
    folder = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    commit(folder, "page.md", "The password is in the Secret `postgres`.\n")
    return folder


def stand_in(folder: Path, script: str) -> Path:
    program = folder / "gitleaks"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@needs_go
def test_secret_in_a_removed_file_of_an_old_commit_is_found_and_not_printed(repository: Path) -> None:
    secret = token()
    old = commit(repository, "settings.py", f'TOKEN = "{secret}"  # gitleaks:allow\n')
    (repository / "settings.py").unlink()
    commit(repository, "later.md", "text\n")
    command = [sys.executable, "-m", "ci.checks.secret_scan", repository]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"{old}:settings.py:github-pat:1: " in done.stdout
    assert secret not in done.stdout + done.stderr


@needs_go
def test_secret_in_another_branch_is_found(repository: Path) -> None:
    program = gitleaks_program()
    assert scan(program, repository) == []
    git(repository, "switch", "--quiet", "-c", "other")
    commit(repository, "a.txt", f"{token()}\n")
    git(repository, "switch", "--quiet", "main")
    assert [one.fingerprint.split(":")[1:] for one in scan(program, repository)] == [["a.txt", "github-pat", "1"]]


def test_part_of_a_history_is_not_taken_for_all_of_it(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.txt", "text\n")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    with pytest.raises(Failure, match="shallow has only a part of its history: `git fetch --unshallow`"):
        scan(stand_in(tmp_path, "echo '[]'"), tmp_path / "shallow")


@pytest.mark.parametrize("name", [".gitleaks.toml", ".gitleaksignore"])
def test_settings_that_could_hide_secrets_are_refused(name: str, repository: Path, tmp_path: Path) -> None:
    commit(repository, name, "")
    with pytest.raises(Failure, match=f"{name} could hide secrets: delete it"):
        scan(stand_in(tmp_path, "echo '[]'"), repository)


def test_settings_of_the_environment_do_not_reach_gitleaks(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLEAKS_CONFIG", "/hide-all.toml")
    assert scan(stand_in(tmp_path, 'echo "[]"; test -z "${GITLEAKS_CONFIG:-}"'), repository) == []


@pytest.mark.parametrize("script", ["echo '[]'; echo 'ERR stderr is not empty' >&2", "echo '[]'; exit 1"])
def test_scan_with_an_error_is_not_taken_for_a_clean_one(script: str, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="gitleaks could not read "):
        scan(stand_in(tmp_path, script), repository)


def test_findings_are_read_without_the_secret(repository: Path, tmp_path: Path) -> None:
    report = '[{"Fingerprint": "c:f:r:1", "Description": "A token", "Secret": "REDACTED"}]'
    assert scan(stand_in(tmp_path, f"echo '{report}'; exit 3"), repository) == [SecretFinding("c:f:r:1", "A token")]


def test_accepted_finding_needs_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "accepted.txt"
    file.write_text("# of a test\nc:f:r:1\n\n# of another test\nd:f:r:2\n")
    assert accepted(file) == {"c:f:r:1", "d:f:r:2"}
    file.write_text("# of a test\nc:f:r:1\nd:f:r:2\n")
    with pytest.raises(Failure, match=r"accepted\.txt: write the reason for d:f:r:2 as a comment"):
        accepted(file)
    accepted(ACCEPTED)
