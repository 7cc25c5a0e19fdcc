"""Stage 3: split the valid rows of a batch into train, validation and test, 70/15/15, by a hash of the listing."""

from __future__ import annotations

from core.stores import layout
from pipeline import rows
from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.training.splits import split
from pipeline.validation.row_checks import valid_rows


class SplitOutcome(Outcome):
    """Rows per split."""

    splits: dict[rows.Split, int]


def run(context: Context, batch: int) -> SplitOutcome:
    """Read the raw rows of a validated batch, drop the rows that break a rule, and write the three clean splits."""
    entry = context.ledger.batch(batch)
    parts = split(valid_rows(rows.read(context.store, entry.raw_key)))
    for name in rows.SPLITS:
        rows.write(context.store, layout.clean_key(batch, name), parts[name])
    context.ledger.set_split(entry)
    counts = {name: part.height for name, part in parts.items()}
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return {"splits": counts, "summary": f"batch {batch}: {listed}"}
