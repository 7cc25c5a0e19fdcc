"""The pipeline: its stages and their order, and its commands. Each runs as `python -m pipeline <name>`.

This module imports the standard library only, because the DAG reads the stages from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    `needs` and `gives` name the references (batch number, run id) that the stage takes and passes on. `then` maps each
    possible answer to the stage that follows. A stage with several successors returns the answer as `next` in its
    result; the answer of a stage with one successor is the empty string.
    """

    name: str
    doc: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    memory: str  # request and limit of its pod; a batch of 361,457 rows takes about half of it
    then: Mapping[str, str]


STAGES = (
    Stage(
        "fetch",
        "Get the next batch from the data API, or continue with an unfinished one.",
        (), ("batch",), "768Mi", {"": "validate"},
    ),
    Stage(
        "validate",
        "Check every row, and quarantine bad rows with the rule that they break.",
        ("batch",), (), "1Gi", {"": "split"},
    ),
    Stage(
        "split",
        "Split the valid rows 70/15/15 by a stable hash of the listing.",
        ("batch",), (), "1Gi", {"": "decide"},
    ),
    Stage(
        "decide",
        "Decide whether the batch is worth a training, with evidence and a reason.",
        ("batch",), (), "1Gi", {"train": "train", "skip": "report"},
    ),
    Stage(
        "train",
        "Train on all clean rows so far, and log run and bundle to MLflow.",
        ("batch",), ("run_id",), "2Gi", {"": "evaluate"},
    ),
    Stage(
        "evaluate",
        "Compare challenger and champion on the holdout of all batches, and judge.",
        ("run_id",), (), "1Gi", {"promote": "promote", "reject": "reject"},
    ),
    Stage(
        "promote",
        "Register the challenger, and move the alias: it is the new champion.",
        ("run_id",), (), "512Mi", {"": "report"},
    ),
    Stage(
        "reject",
        "Register the challenger with the reason why it lost. The champion stays.",
        ("run_id",), (), "512Mi", {"": "report"},
    ),
    Stage(
        "report",
        "Report on one page what happened to the batch.",
        ("batch",), (), "384Mi", {},
    ),
)  # fmt: skip


def following(stage: Stage, result: Mapping[str, object]) -> Stage | None:
    """The stage that follows after this result; None after the last stage.

    Raises:
        KeyError: several stages may follow, and the result names none of them.
    """
    if not stage.then:
        return None
    name = stage.then[str(result["next"]) if len(stage.then) > 1 else ""]
    return next(other for other in STAGES if other.name == name)


@dataclass(frozen=True)
class Command:
    """A command that a person runs: `python -m pipeline <name>`.

    `takes` maps its options to their help; all are required. `instead` maps flags that replace the options.
    """

    name: str
    doc: str
    takes: dict[str, str]
    instead: dict[str, str] = field(default_factory=dict)


COMMANDS = (
    Command(
        "rollback",
        "Make an earlier version the champion again, and record the reason.",
        {"to": "version that becomes the champion", "reason": "reason that the history shows"},
    ),
    Command(
        "shadow",
        "Let a registered version price a share of live requests, too. Callers do not see its prices.",
        {"version": "version that becomes the challenger"},
        {"off": "end the shadow: no version is the challenger"},
    ),
    Command(
        "lineage",
        "Show where a model version comes from: run, code, image, batches, decision, verdict, report.",
        {"version": "registered version"},
    ),
    Command(
        "smoke",
        "Test MLflow: log, register, alias, download and load a model of one tree, and remove it again.",
        {},
    ),
    Command(
        "retention",
        "Delete the bundles of old models that are neither in service nor among the last champions.",
        {},
    ),
    Command(
        "takeover",
        "Make this platform the owner of its ledger and its object store, instead of a platform that no longer runs.",
        {"owner": "name of the platform that owns them, as the error says"},
    ),
    Command(
        "search",
        "Search for better hyperparameters on the clean rows of all batches.",
        {"trials": "total number of trials; finished trials of an earlier search count"},
    ),
)
