"""The learning path: its stages, each `python -m pipeline <stage>`, and what follows which; and commands beside it.

This module imports nothing that is not Python's own: the DAG reads the stages from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One step of the path. `needs` and `gives` name the references that it takes and hands on.

    `then` are the stages that may follow, by the answer under which they do: a stage with several says in its result,
    as `next`, which it is; the answer of a stage with one is empty.
    """

    name: str
    doc: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    memory: str  # request and limit of its pod: for a batch of 361,457 rows its process takes some half of it
    then: Mapping[str, str]


STAGES = (
    Stage(
        "fetch",
        "Ask the data API for the next batch, or take up one that is unfinished.",
        (), ("batch",), "768Mi", {"": "validate"},
    ),
    Stage(
        "validate",
        "Check every row; set bad ones aside with the rule they break.",
        ("batch",), (), "1Gi", {"": "split"},
    ),
    Stage(
        "split",
        "Split clean rows 70/15/15 by a stable hash of the listing.",
        ("batch",), (), "1Gi", {"": "decide"},
    ),
    Stage(
        "decide",
        "Compare the batch with what the champion knows: is it worth a training, and why?",
        ("batch",), (), "1Gi", {"train": "train", "skip": "report"},
    ),
    Stage(
        "train",
        "Train on all clean rows so far; log run and bundle to MLflow.",
        ("batch",), ("run_id",), "2Gi", {"": "evaluate"},
    ),
    Stage(
        "evaluate",
        "Compare challenger and champion on the holdout of all batches, and judge.",
        ("run_id",), (), "1Gi", {"promote": "promote", "reject": "reject"},
    ),
    Stage(
        "promote",
        "Register the challenger and let the alias name it: it is the champion.",
        ("run_id",), (), "512Mi", {"": "report"},
    ),
    Stage(
        "reject",
        "Register the challenger with the reason why it lost: the champion stays.",
        ("run_id",), (), "512Mi", {"": "report"},
    ),
    Stage(
        "report",
        "Say on one page what became of the batch.",
        ("batch",), (), "384Mi", {},
    ),
)  # fmt: skip


def following(stage: Stage, result: Mapping[str, object]) -> Stage | None:
    """The stage that follows one that ended with this result; None after the last.

    Raises:
        KeyError: several may follow, and the result names none of them.
    """
    if not stage.then:
        return None
    name = stage.then[str(result["next"]) if len(stage.then) > 1 else ""]
    return next(other for other in STAGES if other.name == name)


@dataclass(frozen=True)
class Command:
    """What a person runs beside the path: `python -m pipeline <name>`.

    `takes` are its options, with their help, all of them needed; `instead` are flags of which one may stand for them.
    """

    name: str
    doc: str
    takes: dict[str, str]
    instead: dict[str, str] = field(default_factory=dict)


COMMANDS = (
    Command(
        "rollback",
        "Let the alias name an earlier version again, and write down why.",
        {"to": "version that becomes the champion", "reason": "why, for whoever reads the history"},
    ),
    Command(
        "shadow",
        "Let a registered version price a share of live requests beside the champion, unseen by callers.",
        {"version": "version that becomes the challenger"},
        {"off": "no version any more"},
    ),
    Command(
        "lineage",
        "Say where a model version comes from: run, code, image, batches, decision, verdict, report.",
        {"version": "registered version"},
    ),
    Command(
        "smoke",
        "Try MLflow: log, register, alias, download and load a model of one tree, and remove it again.",
        {},
    ),
    Command(
        "search",
        "Search for better hyperparameters on the clean rows of all batches.",
        {"trials": "how many in all; those that were done before count"},
    ),
)
