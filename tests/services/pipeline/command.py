"""Runs `python -m pipeline`, as a pod does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from pipeline import runner


def in_own_process(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a stage or command with these settings, and report no result."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words], env={**os.environ, **environment, "RESULT_FILE": os.devnull},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def in_this_process(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The same without a new process, which would import MLflow and LightGBM again for several seconds."""
    with (
        pytest.MonkeyPatch.context() as patched,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        for name, value in {**environment, "RESULT_FILE": os.devnull}.items():
            patched.setenv(name, value)
        patched.setattr(sys, "argv", ["pipeline", *words])
        with pytest.raises(SystemExit) as ended:
            runner.main()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())
