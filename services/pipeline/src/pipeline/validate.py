"""Stage 2: every row is valid, or set aside with the first rule that it breaks. None is dropped in silence."""

from __future__ import annotations

from typing import Any

import polars as pl

from core.errors import DataError
from pipeline import rows
from pipeline.context import Context
from pipeline.rules import DUPLICATE, judge


def run(context: Context, batch: int) -> dict[str, Any]:
    """Judge the rows of a stored batch.

    Raises:
        DataError: the batch's columns are not those of the contract; the ledger notes that none of its rows is used.
    """
    known = context.ledger.batch(batch)
    raw = rows.read(context.store, known.raw_key)  # unchecked
    try:
        judged = judge(raw)
    except DataError as changed:
        context.ledger.refuse(known, str(changed))
        raise
    duplicates = int((judged["broken_rule"] == DUPLICATE).sum())
    bad = judged.filter(pl.col("broken_rule") != DUPLICATE)
    rows.write(context.store, rows.quarantine_key(batch), bad)
    counts = {str(rule): int(count) for rule, count in bad["broken_rule"].value_counts(sort=True).iter_rows()}
    valid = raw.height - bad.height - duplicates
    context.ledger.set_validated(known, valid, duplicates, counts)
    told = ", ".join(f"{count:,} {rule}" for rule, count in counts.items()) or "none"
    summary = (
        f"batch {batch}: {raw.height:,} rows = {valid:,} valid + {bad.height:,} quarantined ({told})"
        f" + {duplicates:,} duplicates"
    )
    counted = {"rows": raw.height, "valid": valid, "quarantined": bad.height, "duplicates": duplicates}
    return {**counted, "rules": counts, "summary": summary}
