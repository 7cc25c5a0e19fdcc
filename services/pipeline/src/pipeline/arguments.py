"""Command line of all stages and commands.

This module imports the standard library only, like the package itself, because `ci.deploy.commands` reads it without
the packages of the pipeline.
"""

from __future__ import annotations

import argparse

from pipeline import COMMANDS, STAGES

DESCRIPTION = """Run one stage, `python -m pipeline <stage> [--batch N | --run-id ID]`, or one command.

Exit codes: 0 done, 99 nothing to do (the rest of the run is skipped), 1 failed. The result is one JSON object with a
`summary` and the peak memory of the process (`peak_mib`). It is written to the file that RESULT_FILE names, or to the
termination message of the pod.
"""

_REFERENCES: dict[str, tuple[type, str]] = {
    "batch": (int, "number of a stored batch"),
    "run_id": (str, "id of the MLflow run of a training"),
}
_VERSIONS = ("version", "to")  # options of commands that name a registered version


def _version(text: str) -> str:
    """Parse the number of a registered version."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a version. Versions are 1, 2, 3, ...")
    return text


def parser() -> argparse.ArgumentParser:
    """Command line of all stages and commands."""
    top = argparse.ArgumentParser(
        prog="python -m pipeline", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = top.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage in STAGES:
        one = stages.add_parser(stage.name, help=stage.doc, description=stage.doc)
        for name in stage.needs:
            kind, text = _REFERENCES[name]
            one.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True, help=text)
    for command in COMMANDS:
        one = stages.add_parser(command.name, help=command.doc, description=command.doc)
        options = one.add_mutually_exclusive_group(required=True) if command.instead else one
        for name, text in command.takes.items():
            check = _version if name in _VERSIONS else str
            options.add_argument(f"--{name}", type=check, required=not command.instead, help=text)
        for name, text in command.instead.items():
            options.add_argument(f"--{name}", action="store_true", help=text)
        one.add_argument("--json", action="store_true", help="print only the result, as JSON")
    return top
