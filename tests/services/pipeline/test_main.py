"""How a stage ends: its exit code, and a result that fits into a termination message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.stages.fetch
import pipeline.stages.validate
from core.errors import DataError
from pipeline import STAGES
from pipeline.arguments import parser
from pipeline.outcome import SkipRun
from pipeline.runner import report, run
from pipeline.settings import PipelineSettings

FETCH, VALIDATE = STAGES[:2]
NEEDED = {name.upper(): "x" for name, field in PipelineSettings.model_fields.items() if field.is_required()}


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], tuple[int, Any]]:
    """Runs fetch with other work; returns the exit code and the reported result."""
    for name, value in (NEEDED | {"RESULT_FILE": str(tmp_path / "result.json")}).items():
        monkeypatch.setenv(name, value)

    def with_work(work: Callable[..., Any]) -> tuple[int, Any]:
        monkeypatch.setattr(pipeline.stages.fetch, "run", work)
        code, result = run(FETCH, {}), json.loads((tmp_path / "result.json").read_text())
        assert result.pop("peak_mib") > 10  # a Python process needs more than this
        return code, result

    return with_work


def fails(error: Exception) -> Callable[..., Any]:
    def work(*_: Any, **__: Any) -> Any:
        raise error

    return work


def test_done_is_0_with_the_result(ending: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = {"batch": 3, "summary": "batch 3: 4,055 rows"}
    assert ending(lambda _: result) == (0, result)
    assert "fetch: batch 3: 4,055 rows (" in capsys.readouterr().out


def test_nothing_to_do_is_99_with_the_reason_and_facts(ending: Callable[..., Any]) -> None:
    code, result = ending(fails(SkipRun("too small", batch=3)))
    assert (code, result) == (99, {"batch": 3, "summary": "too small"})


def test_failure_is_1_with_its_message(ending: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(fails(DataError("the data API is away"))) == (1, {"error": "the data API is away"})
    assert "the data API is away" in capsys.readouterr().err


def test_missing_setting_is_1_with_variable_and_chart_value(
    ending: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEDGER_DSN")
    code, result = ending(lambda _: {})
    assert code == 1
    assert "LEDGER_DSN (Secret pipeline, key LEDGER_DSN)" in result["error"]


def test_unexpected_exception_is_reported_and_raised(ending: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        ending(fails(ZeroDivisionError("division by zero")))
    assert json.loads((tmp_path / "result.json").read_text()) == {"error": "ZeroDivisionError: division by zero"}


def test_references_are_passed_to_the_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (NEEDED | {"RESULT_FILE": "/dev/null"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pipeline.stages.validate, "run", lambda _, batch: {"summary": f"batch {batch}"})
    assert run(VALIDATE, {"batch": 4}) == 0
    assert "validate: batch 4 (" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["x" * 100_000, "ó" * 100_000, "\u0000" * 5_000, "😀" * 5_000, '"' * 5_000])
def test_result_fits_into_a_termination_message_and_keeps_its_references(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESULT_FILE", str(tmp_path / "result"))
    report({"batch": 3, "run_id": "a" * 32, "reason": text, "summary": text})
    written = (tmp_path / "result").read_bytes()
    assert len(written) <= 4096
    result = json.loads(written)
    assert (result["batch"], result["run_id"]) == (3, "a" * 32)
    assert result["summary"]
    assert text.startswith(result["summary"])


def test_missing_result_file_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESULT_FILE", raising=False)
    if not os.access("/dev/termination-log", os.W_OK):
        report({"summary": "done"})


def test_command_line_requires_the_references_of_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    for stage in STAGES:
        words = [word for name in stage.needs for word in (f"--{name.replace('_', '-')}", "7")]
        arguments = vars(parser().parse_args([stage.name, *words]))
        assert set(arguments) == {"stage", *stage.needs}
        if stage.needs:
            with pytest.raises(SystemExit):
                parser().parse_args([stage.name])
    with pytest.raises(SystemExit):
        parser().parse_args(["retrain"])
    assert "invalid choice: 'retrain'" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["", "v3", "-1", "latest"])
@pytest.mark.parametrize(
    "words", [("lineage", "--version"), ("shadow", "--version"), ("rollback", "--reason=x", "--to")]
)
def test_command_line_refuses_an_invalid_version(
    words: tuple[str, ...], version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([*words[:-1], f"{words[-1]}={version}"])
    assert f"{version!r} is not a version. Versions are 1, 2, 3, ..." in capsys.readouterr().err


@pytest.mark.parametrize(("work", "code"), [("{'summary': 'done'}", 0), ("1 / 0", 1)])
def test_process_ends_with_the_exit_code(work: str, code: int, tmp_path: Path) -> None:
    program = (
        "import sys, pipeline.stages.fetch\n"
        f"pipeline.stages.fetch.run = lambda _: {work}\n"
        "sys.argv = ['pipeline', 'fetch']\n"
        "from pipeline.runner import main; main()"
    )
    env = {**os.environ, **NEEDED, "RESULT_FILE": str(tmp_path / "result")}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("ZeroDivisionError" in done.stderr) is (code == 1), "the log has the traceback"


def test_waiting_threads_do_not_spin(tmp_path: Path) -> None:
    program = (
        "import os, sys, pipeline.stages.fetch\n"
        "loaded = lambda: 'libgomp' in open('/proc/self/maps').read()\n"
        "pipeline.stages.fetch.run = lambda _: {'summary': f\"{os.environ.get('OMP_WAIT_POLICY')} {loaded()}\"}\n"
        "sys.argv = ['pipeline', 'fetch']\n"
        "from pipeline.runner import main; main()"
    )
    env = {**os.environ, **NEEDED, "RESULT_FILE": str(tmp_path / "result")}
    env.pop("OMP_WAIT_POLICY", None)
    subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True)
    summary = json.loads((tmp_path / "result").read_text())["summary"]
    assert summary == "PASSIVE False", "OpenMP reads the setting only when it is loaded"
