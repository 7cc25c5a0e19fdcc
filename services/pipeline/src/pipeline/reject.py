"""Stage 7, if the challenger lost: register it with the reason; the champion stays."""

from __future__ import annotations

from typing import Any

from pipeline import verdict
from pipeline.context import Context


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Reject the model of a run, once; see `verdict.act`."""
    return verdict.act(context, run_id, promoted=False)
