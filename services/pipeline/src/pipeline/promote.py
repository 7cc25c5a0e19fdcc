"""Stage 7, if the challenger won: register it, and let the alias name it."""

from __future__ import annotations

from typing import Any

from pipeline import verdict
from pipeline.context import Context


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Promote the model of a run, once; see `verdict.act`."""
    return verdict.act(context, run_id, promoted=True)
