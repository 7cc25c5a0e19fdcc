"""actionlint checks the workflow files, and reports a mistake in one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.common.paths import CHECKOUT

WORKFLOWS = CHECKOUT / ".github" / "workflows"


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ci.checks.actionlint", *map(str, files)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("go"), reason="needs Go, which compiles actionlint")
def test_a_mistake_is_found(tmp_path: Path) -> None:
    assert lint().returncode == 0
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((WORKFLOWS / "test.yml").read_text().replace("${{ matrix.python }}", "${{ matrix.pyton }}"))
    done = lint(wrong)
    assert (done.returncode, 'property "pyton" is not defined' in done.stdout) == (1, True)


def test_every_workflow_is_looked_at() -> None:
    assert {path.suffix for path in WORKFLOWS.iterdir()} == {".yml"}
