"""Stage 4: is this batch worth a training? The answer comes with a sentence that a person understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline import rows
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Profile:
    """What a decision looks at."""

    rows: int
    states: tuple[str, ...]
    statuses: tuple[str, ...]
    median_price: float
    median_house_size: float


def profile(listings: pl.DataFrame) -> Profile:
    """Profile of clean rows."""
    return Profile(
        listings.height,
        tuple(listings["state"].drop_nulls().unique().sort()),
        tuple(listings["status"].drop_nulls().unique().sort()),
        _median(listings["price"]),
        _median(listings["house_size"]),
    )


def _median(values: pl.Series) -> float:
    middle = values.median()
    return float(middle) if isinstance(middle, int | float) else 0.0


def run(context: Context, batch: int) -> dict[str, Any]:
    """Decide on a batch, once: asked again, the ledger's answer stands.

    Raises:
        SkipRun: the decision is to skip; the batch's rows count in the next training.
    """
    known = context.ledger.batch(batch)
    decided = context.ledger.decision(known)
    if decided is None:
        new = profile(rows.read_split(context.store, [batch], "train"))
        earlier = [number for number in context.ledger.decided_batches() if number != batch]
        before = profile(rows.read_split(context.store, earlier, "train")) if earlier else None
        decided = decide(batch, known.valid or 0, new, before, context.settings)
        evidence = {"valid_rows": known.valid, "new": _told(new), "before": _told(before) if before else None}
        context.ledger.decide(known, *decided, evidence)
    decision, reason = decided
    if decision == "skip":
        raise SkipRun(reason, batch=batch, decision=decision)
    return {"decision": decision, "reason": reason, "summary": f"train: {reason}"}


def decide(batch: int, valid: int, new: Profile, before: Profile | None, settings: PipelineSettings) -> tuple[str, str]:
    """`train` or `skip`, and why."""
    against = []
    if valid < settings.min_batch_rows:
        against.append(f"{valid:,} valid rows, fewer than {settings.min_batch_rows:,}")
    if len(new.states) < settings.min_batch_states:
        named = f" ({new.states[0]})" if len(new.states) == 1 else ""
        against.append(f"rows from {len(new.states)} state{'s' * (len(new.states) != 1)}{named}, fewer than "
                       f"{settings.min_batch_states}")  # fmt: skip
    if against:
        return "skip", f"batch {batch} has " + " and ".join(against) + "; its rows count in the next training"
    if before is None:
        return "train", f"batch {batch} is the baseline: {valid:,} valid rows from {len(new.states)} states"
    share = new.rows / (new.rows + before.rows)
    told = [f"{valid:,} valid rows, {share:.0%} of all so far"]
    unseen = sorted(set(new.statuses) - set(before.statuses))
    if unseen:
        told.append(f"status {', '.join(unseen)} is new")
    for what, now, then in (
        ("price", new.median_price, before.median_price),
        ("house_size", new.median_house_size, before.median_house_size),
    ):
        if then and abs(now / then - 1) >= 0.1:
            told.append(f"the median {what} moved from {then:,.0f} to {now:,.0f}")
    return "train", f"batch {batch} brings " + "; ".join(told)


def _told(known: Profile) -> dict[str, Any]:
    return {
        "rows": known.rows,
        "states": len(known.states),
        "statuses": known.statuses,
        "median_price": known.median_price,
        "median_house_size": known.median_house_size,
    }
