"""Stage 4: is this batch worth a training? The answer comes with its evidence and a sentence that a person understands.

The new rows are compared with those that the champion was trained on, as profiles, and the champion prices them. The
policy, in `decide`: too few rows or states wait for more; what moved, what the champion has never seen, or what it
prices badly is a reason to train; so is, at last, a large share of rows that no training has used. Nothing of it is a
skip, with the sentence that says so. Skipped rows count in the next training.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from core.errors import BundleError
from core.features import RAW_SCHEMA
from pipeline import drift, pages, rows
from pipeline.context import Context
from pipeline.drift import Shift
from pipeline.settings import PipelineSettings
from pipeline.tracking import DECISION, Tracking

_MOST_NAMED = 3  # reasons in the sentence; all are in the evidence
_FEW_ROWS = 100  # of a segment say nothing about an error


@dataclass(frozen=True)
class Champion:
    """What is known of the champion, and how it prices the new batch."""

    version: str
    batches: list[int] = field(default_factory=list)  # that it was trained on
    rows: int = 0  # clean rows of those
    states: int = 0
    unusable: str | None = None
    holdout_mae: float | None = None
    mae: float | None = None  # on the new batch
    by_value: list[dict[str, Any]] = field(default_factory=list)  # see `drift.errors_by_value`

    def mae_on(self, column: str, values: list[str]) -> float | None:
        """Its MAE on the new rows of some bins or categories; None where they are few."""
        parts = [part for part in self.by_value if part["column"] == column and part["value"] in values]
        count = sum(part["rows"] for part in parts)
        return sum(part["rows"] * part["mae"] for part in parts) / count if count >= _FEW_ROWS else None


@dataclass(frozen=True)
class Evidence:
    """What a decision looks at. `pending` are the batches that no training has used, the new one among them."""

    batch: int
    pending: list[int]
    rows: int  # clean rows of the pending batches
    states: list[str]
    champion: Champion | None
    shifts: list[Shift] = field(default_factory=list)


def run(context: Context, batch: int) -> dict[str, Any]:
    """Decide on a batch, once: asked again, the ledger's answer stands.

    Raises:
        RegistryError: MLflow is away.
    """
    known = context.ledger.batch(batch)
    decided = context.ledger.decision(known)
    if decided is None:
        tracking = Tracking(context.settings, context.registry)
        evidence = gather(context, tracking, batch)
        decided = decide(evidence, context.settings)
        told = as_json(evidence, decided, context.settings)
        tags = {"stage": "decide", "batch": str(batch), "sha256": known.sha256, "dag_run": context.dag_run}
        tags |= {"decision": decided[0], "reason": decided[1], "code_version": context.code_version}
        texts = {f"{DECISION}.html": page(told)} | rows.reports(context.store, batch)
        run_id = tracking.log_decision(f"batch-{batch:04d}-decision", tags, told, texts)
        context.ledger.decide(known, *decided, in_short(told) | {"run_id": run_id})
    decision, reason = decided
    return {"decision": decision, "reason": reason, "next": decision, "summary": f"{decision}: {reason}"}


def gather(context: Context, tracking: Tracking, batch: int) -> Evidence:
    """The evidence on a batch: reads its clean rows, and of all others only their profiles."""
    listings = pl.concat([rows.read_split(context.store, [batch], split) for split in rows.SPLITS])
    labelled = drift.labels(listings)
    rows.write(context.store, _profile_key(context, batch), drift.profile(labelled))
    pending = sorted({*context.ledger.untrained_batches(), batch})
    new = _profile(context, pending)
    version = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    training = context.ledger.training(version.run_id) if version else None
    states = [state for state in drift.values_of(new, "state") if state != drift.MISSING]
    if version is None:
        return Evidence(batch, pending, drift.rows_of(new), states, None)
    trained = list(training["batches"]) if training else []
    reference = _profile(context, trained)
    evaluation = tracking.find_evaluation(version.run_id)
    champion = Champion(
        version.version,
        trained,
        drift.rows_of(reference),
        len(drift.values_of(reference, "state")),
        holdout_mae=evaluation["challenger"]["mae"] if evaluation else None,
    )
    try:
        error = np.abs(tracking.bundle(version.run_id).predict(listings) - listings["price"].to_numpy())
        champion = replace(champion, mae=float(error.mean()), by_value=drift.errors_by_value(labelled, error))
    except BundleError as unusable:
        champion = replace(champion, unusable=str(unusable))
    return Evidence(batch, pending, drift.rows_of(new), states, champion, drift.shifts(reference, new))


def _profile(context: Context, batches: list[int]) -> pl.DataFrame:
    """The profile of batches together; one that is missing, as of a release without, is made of the clean rows."""
    parts = [drift.profile(drift.labels(pl.DataFrame(schema=RAW_SCHEMA)))]
    for number in batches:
        key = _profile_key(context, number)
        if not context.store.exists(key):
            clean = [rows.read_split(context.store, [number], split) for split in rows.SPLITS]
            rows.write(context.store, key, drift.profile(drift.labels(pl.concat(clean))))
        parts.append(rows.read(context.store, key))
    return drift.add(parts)


def _profile_key(context: Context, number: int) -> str:
    """Where the profile of a batch's content lies; other bins are other objects."""
    return f"profiles/{drift.PROFILE}/{number:04d}-{context.ledger.batch(number).sha256[:12]}.parquet"


def decide(evidence: Evidence, settings: PipelineSettings) -> tuple[str, str]:
    """`train` or `skip`, and why."""
    outdated = evidence.champion is not None and evidence.champion.unusable is not None
    against = [] if outdated else _too_little(evidence, settings)  # there is nothing to wait for without a champion
    which = _which(evidence)
    later = "; its rows count in the next training"
    if against:
        return "skip", f"{which} has {' and '.join(against)}{later}"
    if evidence.champion is None:
        told = f"{evidence.rows:,} clean rows from {len(evidence.states)} states"
        if evidence.pending == [evidence.batch]:
            return "train", f"{which} is the baseline: {told}; there is no champion yet"
        return "train", f"there is no champion yet, and {which} has {told}"
    reasons = _reasons(evidence, evidence.champion, settings)
    if not reasons:
        return "skip", f"{which} is like what the champion knows: {_calm(evidence, evidence.champion)}{later}"
    more = f"; and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    return "train", f"{which}: {'; '.join(reasons[:_MOST_NAMED])}{more}"


def _which(evidence: Evidence) -> str:
    """The batch, with those before it whose rows wait."""
    earlier = [str(number) for number in evidence.pending if number != evidence.batch]
    return f"batch {evidence.batch}" + (f" (with {', '.join(earlier)}, unused so far)" if earlier else "")


def _too_little(evidence: Evidence, settings: PipelineSettings) -> list[str]:
    found, states = [], evidence.states
    if evidence.rows < settings.min_batch_rows:
        found.append(f"{evidence.rows:,} clean rows, fewer than {settings.min_batch_rows:,}")
    known = evidence.champion.states if evidence.champion else 0
    fewest = max(settings.min_batch_states, math.ceil(settings.min_state_share * known))
    if len(states) < fewest:
        name = f" ({states[0]})" if len(states) == 1 else ""
        found.append(f"rows from {len(states)} state{'s' * (len(states) != 1)}{name}, fewer than {fewest}")
    return found


def _reasons(evidence: Evidence, champion: Champion, settings: PipelineSettings) -> list[str]:
    """Every reason to train, the plainest first."""
    found = []
    if champion.unusable:
        found.append(f"the champion, version {champion.version}, cannot serve: {champion.unusable}")
    strongest = sorted(evidence.shifts, key=lambda shift: -(shift.psi or 0))
    found += [_moved(shift, champion, settings) for shift in strongest if _has_moved(shift, settings)]
    found += [
        f"{shift.unseen:.0%} of its rows are of a {shift.column.replace('_', ' ')} that the champion has never seen"
        for shift in evidence.shifts
        if shift.unseen is not None and shift.unseen > settings.max_unseen and not _has_moved(shift, settings)
    ]
    rise = _rise(champion.mae, champion)
    if rise is not None and rise > settings.max_mae_rise:
        found.append(
            f"the champion's MAE on it, ${champion.mae:,.0f}, is {_compared(rise)} (over {settings.max_mae_rise:.0%})"
        )
    share = evidence.rows / (evidence.rows + champion.rows)
    if not found and share > settings.max_unused_share:
        found.append(
            f"nothing moved, but its {evidence.rows:,} rows are {share:.0%} of all "
            f"(over {settings.max_unused_share:.0%})"
        )
    return found


def _has_moved(shift: Shift, settings: PipelineSettings) -> bool:
    return (shift.psi or 0) > settings.max_psi or (shift.ks or 0) > settings.max_ks


def _moved(shift: Shift, champion: Champion, settings: PipelineSettings) -> str:
    by_psi = (shift.psi or 0) > settings.max_psi
    figure = (
        f"PSI {shift.psi:.1f} over {settings.max_psi:g}" if by_psi else f"KS {shift.ks:.2f} over {settings.max_ks:g}"
    )
    grown = shift.grown
    before, now = (sum(shift.shares[name][at] for name in grown) for at in (0, 1))
    change = "are new to the champion" if shift.is_new else f"went from {before:.0%} to {now:.0%} of rows"
    rise = _rise(champion.mae_on(shift.column, grown), champion)
    error = "" if rise is None else f", whose MAE on them is {_compared(rise)}" if shift.is_new else (
        f", and the champion's MAE on them is {_compared(rise)}")  # fmt: skip
    return f"{shift.column} moved ({figure}): {drift.told(shift.column, grown)} {change}{error}"


def _rise(mae: float | None, champion: Champion) -> float | None:
    """How much worse than on its holdout the champion is, as a fraction."""
    return mae / champion.holdout_mae - 1 if mae is not None and champion.holdout_mae else None


def _compared(rise: float) -> str:
    if rise >= 1:
        return f"{rise + 1:.1f} times that on its holdout"
    return f"{abs(rise):.0%} {'worse' if rise > 0 else 'better'} than on its holdout"


def _calm(evidence: Evidence, champion: Champion) -> str:
    """Why nothing is a reason, in figures."""
    most = max(evidence.shifts, key=lambda shift: shift.psi or 0)
    rise = _rise(champion.mae, champion)
    told = "" if rise is None else f", and its MAE on it, ${champion.mae:,.0f}, is {_compared(rise)}"
    return f"the largest PSI is {most.psi:.2f} ({most.column}){told}"


def as_json(evidence: Evidence, decided: tuple[str, str], settings: PipelineSettings) -> dict[str, Any]:
    """The evidence with what was made of it."""
    thresholds = ("min_batch_rows", "min_batch_states", "min_state_share", "max_psi", "max_ks", "max_unseen",
                  "max_mae_rise", "max_unused_share")  # fmt: skip
    return {
        "decision": decided[0],
        "reason": decided[1],
        "batch": evidence.batch,
        "pending": evidence.pending,
        "rows": evidence.rows,
        "states": len(evidence.states),
        "champion": asdict(evidence.champion) if evidence.champion else None,
        "columns": [
            asdict(shift) | {"moved": _has_moved(shift, settings), "grown": shift.grown if shift.shares else []}
            for shift in evidence.shifts
        ],
        "thresholds": {name: getattr(settings, name) for name in thresholds},
    }


def in_short(told: dict[str, Any]) -> dict[str, Any]:
    """The evidence without what is kept in MLflow only: shares per bin, errors per segment."""
    champion = told["champion"] and {name: value for name, value in told["champion"].items() if name != "by_value"}
    columns = [{name: value for name, value in column.items() if name != "shares"} for column in told["columns"]]
    return {**told, "champion": champion, "columns": columns}


def page(told: dict[str, Any]) -> str:
    """The evidence as a page, with plots of what the champion was trained on (grey) and what came (blue)."""
    columns, champion = told["columns"], told["champion"]
    parts = []
    if columns:
        lines = [
            [
                column["column"],
                _figure(column["psi"], ".2f"),
                _figure(column["ks"], ".2f"),
                _figure(column["unseen"], ".1%"),
            ]
            for column in columns
        ]
        parts.append(
            pages.section(
                "New rows against those that the champion was trained on",
                pages.table(["column", "PSI", "KS", "unseen"], lines, [column["moved"] for column in columns]),
            )
        )
        plots = [pages.bars(column["column"], column["shares"]) for column in columns if column["column"] in drift.BINS]
        status = [pages.bars("status", column["shares"]) for column in columns if column["column"] == "status"]
        parts.append(f"<div class=plots>{''.join(plots + status)}</div>")
    if champion and champion["by_value"]:
        lines = [
            [part["column"], part["value"], f"{part['rows']:,}", f"${part['mae']:,.0f}"]
            for part in champion["by_value"]
            if part["rows"] >= _FEW_ROWS
        ]
        overall = f"Version {champion['version']}: MAE ${champion['mae']:,.0f} on the batch"
        holdout = f", ${champion['holdout_mae']:,.0f} on its holdout." if champion["holdout_mae"] else "."
        table = pages.table(["column", "value", "rows", "MAE"], lines)
        parts.append(pages.section("How the champion prices the batch", f"<p>{overall}{holdout}</p>", table))
    limits = pages.table(["threshold", "value"], [[name, f"{value:g}"] for name, value in told["thresholds"].items()])
    parts.append(pages.section("Policy", limits))
    return pages.document(f"Batch {told['batch']}: {told['decision']}", told["reason"], parts)


def _figure(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
