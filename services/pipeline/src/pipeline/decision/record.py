"""The record of a decision: its JSON in MLflow (`decision.json`), and a shorter form for the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NotRequired, TypedDict

from pipeline.decision.evidence import Evidence
from pipeline.decision.policy import Decision, has_moved
from pipeline.settings import PipelineSettings

_THRESHOLDS = (
    "min_batch_rows",
    "min_batch_states",
    "min_state_share",
    "max_psi",
    "max_ks",
    "max_unseen",
    "max_mae_rise",
    "max_unused_share",
)


class DecisionRecord(TypedDict):
    """A decision with its evidence. `states` counts states; `run_id` is in the ledger's form only."""

    decision: str
    reason: str
    batch: int
    pending: list[int]
    rows: int
    states: int
    champion: dict[str, Any] | None  # fields of `ChampionEvidence`
    columns: list[dict[str, Any]]  # fields of `Shift`, with `moved` and `grown`
    thresholds: dict[str, float]
    run_id: NotRequired[str]


def full_record(evidence: Evidence, decision: Decision, settings: PipelineSettings) -> DecisionRecord:
    """The decision with all its evidence."""
    return {
        "decision": decision.answer,
        "reason": decision.reason,
        "batch": evidence.batch,
        "pending": evidence.pending,
        "rows": evidence.rows,
        "states": len(evidence.states),
        "champion": asdict(evidence.champion) if evidence.champion else None,
        "columns": [
            asdict(shift) | {"moved": has_moved(shift, settings), "grown": shift.grown if shift.shares else []}
            for shift in evidence.shifts
        ],
        "thresholds": {name: getattr(settings, name) for name in _THRESHOLDS},
    }


def ledger_record(record: DecisionRecord, run_id: str) -> DecisionRecord:
    """The record without shares per bin and errors per segment, which only MLflow keeps; with the MLflow run."""
    champion = record["champion"] and {name: value for name, value in record["champion"].items() if name != "by_value"}
    columns = [{name: value for name, value in column.items() if name != "shares"} for column in record["columns"]]
    return {**record, "champion": champion, "columns": columns, "run_id": run_id}
