"""Stage 8: report on one page what happened to a batch: decision, training, verdict, and the current champion."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.reports import batch_page
from pipeline.tracking import REPORT, Tracking


class ReportOutcome(Outcome):
    """The current champion."""

    champion: str | None  # version


def run(context: Context, batch: int) -> ReportOutcome:
    """Log the page of a batch to the MLflow run of its decision. A second call replaces the page."""
    tracking = Tracking(context.settings, context.registry)
    entry = context.ledger.batch(batch)
    row = next(row for row in reversed(context.ledger.history()) if row["sha256"] == entry.sha256[:12])
    champion = context.champion
    evaluation = tracking.find_evaluation(row["run_id"]) if row["run_id"] else None
    summary = batch_page.summarize(row, champion.version if champion else None)
    decision_run = (row["evidence"] or {}).get("run_id")
    if decision_run:
        tracking.log_page(decision_run, REPORT, batch_page.render(row, evaluation, summary))
    return {"champion": champion.version if champion else None, "summary": summary}
