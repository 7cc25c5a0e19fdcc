"""The document of a decision: `decision.json` in MLflow, and its shorter form in the ledger."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from core.ledger.decisions import Decision, DecisionEvidence
from pipeline.decision.drift import SegmentError, Shift
from pipeline.decision.evidence import ChampionEvidence, Evidence
from pipeline.decision.policy import has_moved
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


class ChampionRecord(TypedDict):
    """Fields of `ChampionEvidence`. The ledger's form has no `by_value`."""

    version: str
    batches: list[int]
    rows: int
    states: int
    unusable: str | None
    holdout_mae: float | None
    mae: float | None
    by_value: NotRequired[list[SegmentError]]


class ShiftRecord(TypedDict):
    """Fields of `Shift`, with `moved` and `grown`. The ledger's form has no `shares`."""

    column: str
    psi: float | None
    ks: float | None
    unseen: float | None
    shares: NotRequired[dict[str, tuple[float, float]]]
    moved: bool
    grown: list[str]


class DecisionDocument(DecisionEvidence):
    """A decision with its evidence. `states` counts states; `run_id` is in the ledger's form only."""

    decision: str
    reason: str
    batch: int
    pending: list[int]
    rows: int
    states: int
    champion: ChampionRecord | None
    columns: list[ShiftRecord]
    thresholds: dict[str, float]


def full_document(evidence: Evidence, decision: Decision, settings: PipelineSettings) -> DecisionDocument:
    """The decision with all its evidence."""
    return {
        "decision": decision.answer,
        "reason": decision.reason,
        "batch": evidence.batch,
        "pending": evidence.pending,
        "rows": evidence.rows,
        "states": len(evidence.states),
        "champion": _champion(evidence.champion) if evidence.champion else None,
        "columns": [_shift(shift, settings) for shift in evidence.shifts],
        "thresholds": {name: getattr(settings, name) for name in _THRESHOLDS},
    }


def _champion(champion: ChampionEvidence) -> ChampionRecord:
    return {
        "version": champion.version,
        "batches": champion.batches,
        "rows": champion.rows,
        "states": champion.states,
        "unusable": champion.unusable,
        "holdout_mae": champion.holdout_mae,
        "mae": champion.mae,
        "by_value": champion.by_value,
    }


def _shift(shift: Shift, settings: PipelineSettings) -> ShiftRecord:
    return {
        "column": shift.column,
        "psi": shift.psi,
        "ks": shift.ks,
        "unseen": shift.unseen,
        "shares": shift.shares,
        "moved": has_moved(shift, settings),
        "grown": shift.grown if shift.shares else [],
    }


def ledger_document(document: DecisionDocument, run_id: str) -> DecisionDocument:
    """The document without shares per bin and errors per segment, which only MLflow keeps; with the MLflow run."""
    champion, columns = document["champion"], [column.copy() for column in document["columns"]]
    if champion:
        champion = champion.copy()
        del champion["by_value"]
    for column in columns:
        del column["shares"]
    return {**document, "champion": champion, "columns": columns, "run_id": run_id}
