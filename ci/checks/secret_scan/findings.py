"""Runs gitleaks on the history of a repository, and reads its findings and the accepted ones."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ci.common.console import Failure, run
from ci.common.git import git
from ci.common.gocache import compiled

PACKAGE = "github.com/zricethezav/gitleaks/v8"
ACCEPTED = Path(__file__).with_name("accepted.txt")
HIDE = (".gitleaks.toml", ".gitleaksignore")  # gitleaks reads them in the repository
FOUND = 3  # exit code of gitleaks with findings; it may end with 0 although it could not read the repository


@dataclass(frozen=True, order=True)
class SecretFinding:
    """A line of a commit that looks like a secret. The secret itself is not kept, because logs are public."""

    fingerprint: str  # commit:file:rule:line
    description: str

    def __str__(self) -> str:
        return f"{self.fingerprint}: {self.description}"


def gitleaks_program() -> Path:
    """Compile gitleaks, if it is not in the cache.

    Raises:
        Failure: there is no Go toolchain, or it failed.
    """
    return compiled(Path(__file__).parent, PACKAGE, "gitleaks")


def scan(gitleaks: Path, repository: Path) -> list[SecretFinding]:
    """Findings in every commit of every branch and tag of a repository, including removed files.

    Changes that are not committed are not read, and neither is what only a merge commit changes. Comments and settings
    of gitleaks in the repository cannot hide a finding.

    Raises:
        Failure: the repository has only a part of its history, or settings of gitleaks; or gitleaks could not read all.
    """
    for name in HIDE:
        if (repository / name).exists():
            raise Failure(f"{name} could hide secrets: delete it, and accept findings in {ACCEPTED.name}")
    if git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise Failure(f"{repository} has only a part of its history: `git fetch --unshallow` gets the rest")
    words = ["git", "--no-banner", "--no-color", "--log-level", "error", "--redact", "--ignore-gitleaks-allow"]
    words += ["--report-format", "json", "--report-path", "-", "--exit-code", str(FOUND)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITLEAKS_")}
    done = run([gitleaks, *words, repository], check=False, env=environment)
    if done.returncode not in (0, FOUND) or done.stderr.strip():
        raise Failure(f"gitleaks could not read {repository} (code {done.returncode}):\n{done.stderr.strip()}")
    return sorted(SecretFinding(one["Fingerprint"], one["Description"]) for one in json.loads(done.stdout))


def accepted(file: Path) -> set[str]:
    """The fingerprints of a file.

    Raises:
        Failure: the line above a fingerprint is not a comment.
    """
    fingerprints, before = set(), ""
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            if not before.startswith("#"):
                raise Failure(f"{file.name}: write the reason for {line} as a comment in the line above it")
            fingerprints.add(line)
        before = line
    return fingerprints
