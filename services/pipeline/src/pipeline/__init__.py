"""The learning path: seven stages, each `python -m pipeline <stage>`, in the order of `STAGES`; and commands.

This module imports nothing that is not Python's own: the DAG reads the stages from here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of the path. `needs` and `gives` name the references that it takes and hands on."""

    name: str
    doc: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    memory: str  # request and limit of its pod


STAGES = (
    Stage("fetch", "Ask the data API for the next batch, or take up one that is unfinished.", (), ("batch",), "768Mi"),
    Stage("validate", "Check every row; set bad ones aside with the rule they break.", ("batch",), (), "1Gi"),
    Stage("split", "Split clean rows 70/15/15 by a stable hash of the listing.", ("batch",), (), "1Gi"),
    Stage("decide", "Decide whether this batch is worth a training, and say why.", ("batch",), (), "1536Mi"),
    Stage("train", "Train on all clean rows so far; log run and bundle to MLflow.", ("batch",), ("run_id",), "2Gi"),
    Stage("evaluate", "Compare challenger and champion on the holdout of all batches.", ("run_id",), (), "1Gi"),
    Stage("promote", "Register the version; move the alias, or write down why not.", ("run_id",), (), "512Mi"),
)


@dataclass(frozen=True)
class Command:
    """What a person runs beside the path: `python -m pipeline <name>`. `takes` are its options, with their help."""

    name: str
    doc: str
    takes: dict[str, str]


COMMANDS = (
    Command(
        "rollback",
        "Let the alias name an earlier version again, and write down why.",
        {"to": "version that becomes the champion", "reason": "why, for whoever reads the history"},
    ),
    Command(
        "search",
        "Search for better hyperparameters on the clean rows of all batches.",
        {"trials": "how many in all; those that were done before count"},
    ),
)
