"""Run one stage: `python -m pipeline <stage> [--batch N | --run-id ID]`, or a command beside the path.

Exit codes: 0 done, 99 nothing to do (the rest of the run is skipped), 1 failed. The result, one JSON object with a
`summary` and the most memory that the process held (`peak_mib`), goes to the file named by RESULT_FILE, or to a pod's
termination message.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from core.errors import HouseError
from core.settings import load
from pipeline import COMMANDS, STAGES, Command, Stage
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings

SKIPPED = 99
_REFERENCES: dict[str, tuple[type, str]] = {
    "batch": (int, "number of a stored batch"),
    "run_id": (str, "id of an MLflow run that train made"),
}
_VERSIONS = ("version", "to")  # options of commands that name a registered version
_LONGEST_RESULT = 4096  # bytes that the kubelet keeps of a termination message


def _version(text: str) -> str:
    """A version of the registry, which counts from 1."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no version: they are 1, 2, 3, ...")
    return text


def parser() -> argparse.ArgumentParser:
    """Command line of all stages and commands."""
    top = argparse.ArgumentParser(
        prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = top.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage in STAGES:
        one = stages.add_parser(stage.name, help=stage.doc, description=stage.doc)
        for name in stage.needs:
            kind, told = _REFERENCES[name]
            one.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True, help=told)
    for command in COMMANDS:
        one = stages.add_parser(command.name, help=command.doc, description=command.doc)
        options = one.add_mutually_exclusive_group(required=True) if command.instead else one
        for name, told in command.takes.items():
            check = _version if name in _VERSIONS else str
            options.add_argument(f"--{name}", type=check, required=not command.instead, help=told)
        for name, told in command.instead.items():
            options.add_argument(f"--{name}", action="store_true", help=told)
        one.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    return top


def run(stage: Stage | Command, references: dict[str, Any]) -> int:
    """Run a stage or command, report its result, and return the exit code."""
    began = time.monotonic()
    as_json = references.pop("json", False)
    if not as_json:
        print(f"{stage.name}: {stage.doc}", flush=True)
    try:
        work = importlib.import_module(f"pipeline.{stage.name}").run
        result = work(Context(load(PipelineSettings, "airflow.pipeline.config")), **references)
        code = 0
    except SkipRun as nothing:
        result, code = {**nothing.facts, "summary": str(nothing)}, SKIPPED
    except HouseError as failed:
        result, code = {"error": str(failed)}, 1
    except Exception as unforeseen:
        report({"error": f"{type(unforeseen).__name__}: {unforeseen}"})
        raise  # the traceback is for the log
    peak = peak_mib()
    report({**result, "peak_mib": peak})
    if as_json:
        print(json.dumps({name: value for name, value in result.items() if name != "summary"}, indent=2))
        return code
    said = result.get("summary") or result["error"]
    print(
        f"{stage.name}: {said} ({time.monotonic() - began:.1f} s, {peak} MiB)",
        file=sys.stderr if code == 1 else sys.stdout,
    )
    return code


def peak_mib() -> int:
    """The most memory that this process held (not `ru_maxrss`, which a process inherits from the one that made it)."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def report(result: dict[str, Any]) -> None:
    """Hand the result to whoever started the stage."""
    text, longest = json.dumps(result), _LONGEST_RESULT
    while len(text.encode()) > _LONGEST_RESULT and longest:  # only sentences can be that long
        longest //= 2
        text = json.dumps(
            {name: value[:longest] if isinstance(value, str) else value for name, value in result.items()}
        )
    target = Path(os.environ.get("RESULT_FILE", "/dev/termination-log"))
    if "RESULT_FILE" in os.environ or os.access(target, os.W_OK):
        target.write_text(text)


def main() -> None:
    """Entry of the program."""
    # Before LightGBM loads OpenMP: threads that spin while they wait train 4 to 20 times slower beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    chosen = vars(parser().parse_args())
    name = chosen.pop("stage")
    sys.exit(run(next(one for one in (*STAGES, *COMMANDS) if one.name == name), chosen))


if __name__ == "__main__":
    main()
