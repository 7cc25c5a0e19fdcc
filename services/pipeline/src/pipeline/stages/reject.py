"""Stage 7 if the challenger loses: register it with the reason. The champion stays."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.evaluation import verdict
from pipeline.evaluation.verdict import VerdictOutcome


def run(context: Context, run_id: str) -> VerdictOutcome:
    """Reject the model of a run. Idempotent; see `verdict.carry_out`."""
    return verdict.carry_out(context, run_id, promoted=False)
