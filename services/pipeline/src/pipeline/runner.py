"""Runs one stage or command in its own process, and reports its result."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import HouseError
from core.settings import load
from pipeline import COMMANDS, STAGES, Command, Stage
from pipeline.arguments import parser
from pipeline.context import Context
from pipeline.outcome import SkipRun, peak_mib
from pipeline.patience import AWAY
from pipeline.settings import PipelineSettings

SKIPPED = 99
_MAX_RESULT = 4096  # bytes; the kubelet truncates longer termination messages


def run(stage: Stage | Command, references: dict[str, Any]) -> int:
    """Run a stage or command, write its result, and return the exit code."""
    began = time.monotonic()
    as_json = references.pop("json", False)
    if not as_json:
        print(f"{stage.name}: {stage.doc}", flush=True)
    try:
        package = "commands" if isinstance(stage, Command) else "stages"
        work = importlib.import_module(f"pipeline.{package}.{stage.name}").run
        settings = load(PipelineSettings, "airflow.pipeline.config")
        if isinstance(stage, Command):  # a person waits for the answer
            settings = settings.model_copy(update={"component_wait_seconds": 0})
        result = work(Context(settings), **references)
        code = 0
    except SkipRun as skipped:
        result, code = {**skipped.facts, "summary": str(skipped)}, SKIPPED
    except HouseError as error:
        result, code = {"error": f"{error}{_outlook(stage, error)}"}, 1
    except Exception as error:
        report({"error": f"{type(error).__name__}: {error}"})
        raise  # so that the log has the traceback
    peak = peak_mib()
    report({**result, "peak_mib": peak})
    if as_json:
        print(json.dumps({name: value for name, value in result.items() if name != "summary"}, indent=2))
        return code
    message = result.get("summary") or result["error"]
    print(
        f"{stage.name}: {message} ({time.monotonic() - began:.1f} s, {peak} MiB)",
        file=sys.stderr if code == 1 else sys.stdout,
    )
    return code


def _outlook(stage: Stage | Command, error: HouseError) -> str:
    """A sentence about the next run, if the stage failed only because a component is away."""
    if isinstance(stage, Stage) and stage.needs and isinstance(error, AWAY):
        return ". The next run continues with this batch"
    return ""


def report(result: Mapping[str, object]) -> None:
    """Write the result to RESULT_FILE, or to the termination message; long texts are cut so that it fits."""
    text, limit = json.dumps(result), _MAX_RESULT
    while len(text.encode()) > _MAX_RESULT and limit:  # only texts can be that long
        limit //= 2
        text = json.dumps({name: value[:limit] if isinstance(value, str) else value for name, value in result.items()})
    target = Path(os.environ.get("RESULT_FILE", "/dev/termination-log"))
    if "RESULT_FILE" in os.environ or os.access(target, os.W_OK):
        target.write_text(text)


def main() -> None:
    """Parse the command line and run the stage or command."""
    # Set before LightGBM loads OpenMP: on a busy machine, threads that spin while waiting train 4 to 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = vars(parser().parse_args())
    name = arguments.pop("stage")
    sys.exit(run(next(one for one in (*STAGES, *COMMANDS) if one.name == name), arguments))
