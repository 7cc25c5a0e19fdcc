"""Gathers the evidence for a decision: the profile of the new rows, and how the champion prices them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from core.errors import BundleError
from core.listing.schema import RAW_SCHEMA
from core.stores import layout
from pipeline import rows
from pipeline.context import Context
from pipeline.decision import drift
from pipeline.decision.drift import SegmentError, Shift
from pipeline.tracking import Tracking
from pipeline.trust import champion_bundle

MIN_SEGMENT_ROWS = 100  # the error of a smaller segment is mostly noise


@dataclass(frozen=True)
class ChampionEvidence:
    """The champion's training data, and its errors on the new batch. MAE in dollars."""

    version: str
    batches: list[int] = field(default_factory=list)  # batches that it was trained on
    rows: int = 0  # clean rows of those batches
    states: int = 0
    unusable: str | None = None  # why the champion cannot serve with this release
    holdout_mae: float | None = None
    mae: float | None = None  # on the new batch
    by_value: list[SegmentError] = field(default_factory=list)

    def mae_on(self, column: str, values: list[str]) -> float | None:
        """MAE on the new rows in these bins or categories; None if they are fewer than `MIN_SEGMENT_ROWS`."""
        parts = [part for part in self.by_value if part["column"] == column and part["value"] in values]
        count = sum(part["rows"] for part in parts)
        return sum(part["rows"] * part["mae"] for part in parts) / count if count >= MIN_SEGMENT_ROWS else None


@dataclass(frozen=True)
class Evidence:
    """Input of the policy. `pending` are the batches that no training has used, including the new one."""

    batch: int
    pending: list[int]
    rows: int  # clean rows of the pending batches
    states: list[str]
    champion: ChampionEvidence | None
    shifts: list[Shift] = field(default_factory=list)


def gather(context: Context, tracking: Tracking, batch: int) -> Evidence:
    """Gather the evidence on a batch.

    Reads the clean rows of this batch only; other batches contribute their stored profiles.
    """
    listings = pl.concat([rows.read_batch(context.store, batch, split) for split in rows.SPLITS])
    labelled = drift.labels(listings)
    rows.write(context.store, _profile_key(context, batch), drift.profile(labelled))
    pending = sorted({*context.ledger.untrained_batches(), batch})
    new = _profile(context, pending)
    version = context.champion
    training = context.ledger.training(version.run_id) if version else None
    states = [state for state in drift.values_of(new, "state") if state != drift.MISSING]
    if version is None:
        return Evidence(batch, pending, drift.rows_of(new), states, None)
    trained = list(training["batches"]) if training else []
    reference = _profile(context, trained)
    evaluation = tracking.find_evaluation(version.run_id)
    champion = ChampionEvidence(
        version.version,
        trained,
        drift.rows_of(reference),
        len(drift.values_of(reference, "state")),
        holdout_mae=evaluation["challenger"]["mae"] if evaluation else None,
    )
    try:
        error = np.abs(champion_bundle(context, version).predict(listings) - listings["price"].to_numpy())
        champion = replace(champion, mae=float(error.mean()), by_value=drift.errors_by_value(labelled, error))
    except BundleError as unusable:
        champion = replace(champion, unusable=str(unusable))
    return Evidence(batch, pending, drift.rows_of(new), states, champion, drift.shifts(reference, new))


def _profile(context: Context, batches: list[int]) -> pl.DataFrame:
    """The sum of the profiles of these batches.

    A profile that is not stored, as for batches of a release without profiles, is computed from the clean rows.
    """
    parts = [drift.profile(drift.labels(pl.DataFrame(schema=RAW_SCHEMA)))]
    for number in batches:
        key = _profile_key(context, number)
        if not context.store.exists(key):
            clean = [rows.read_batch(context.store, number, split) for split in rows.SPLITS]
            rows.write(context.store, key, drift.profile(drift.labels(pl.concat(clean))))
        parts.append(rows.read(context.store, key))
    return drift.add(parts)


def _profile_key(context: Context, number: int) -> str:
    """Key of the profile of a batch's content. Other bins have another `drift.PROFILE`, and so another key."""
    return layout.profile_key(drift.PROFILE, number, context.ledger.batch(number).sha256)
