"""The report of a batch: its rows, decision, verdict, and errors per segment, on one page."""

from __future__ import annotations

from core.ledger.history import HistoryRow
from pipeline.evaluation.record import Evaluation
from pipeline.reports import html


def summarize(row: HistoryRow, champion: str | None) -> str:
    """Summary of a batch in one sentence. `row` is the last row of the batch in the ledger's history."""
    outcome = f"the champion is version {champion}" if champion else "there is no champion"
    if row["promoted"] is None:
        return f"{row['decision']}: {row['reason']}; {outcome}"
    return f"version {row['version']} {'promoted' if row['promoted'] else 'rejected'}: {row['verdict']}; {outcome}"


def render(row: HistoryRow, evaluation: Evaluation | None, summary: str) -> str:
    """The page of a batch."""
    counts = {
        "received": row["rows"],
        "clean": row["valid"],
        "quarantined": row["quarantined"],
        "duplicates": row["duplicates"],
    }
    return html.render(
        "batch.html.j2",
        title=f"Batch {row['batch_number']}: report",
        summary=summary,
        counts=counts,
        decision=row["reason"],
        evaluation=evaluation,
    )
