"""Stage 7 if the challenger wins: register it, and move the alias `champion` to it."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.evaluation import verdict


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Promote the model of a run. Idempotent; see `verdict.carry_out`."""
    return verdict.carry_out(context, run_id, promoted=True)
