"""Stage 6: challenger and champion on one holdout, the test splits of all batches so far, which both see whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from core.bundle import Bundle, load_bundle
from core.errors import BundleError
from pipeline import rows
from pipeline.context import Context
from pipeline.scores import score, segments
from pipeline.tracking import Tracking


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Judge the model of a run; the evaluation becomes an artifact of that run, and stands once promote acted on it."""
    tracking = Tracking(context.settings, context.registry)
    if context.ledger.promotion(run_id):
        return _result(tracking.evaluation(run_id))
    batches = context.ledger.decided_batches()
    holdout = rows.read_split(context.store, batches, "test")
    challenger, challenger_segments = _judge(tracking.bundle(run_id), holdout)
    evaluation: dict[str, Any] = {
        "batches": batches,
        "rows": holdout.height,
        "challenger": challenger,
        "challenger_segments": challenger_segments,
        "champion": None,
        "champion_version": None,
        "champion_segments": None,
        "champion_unusable": None,
    }
    known = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    if known and known.run_id != run_id:
        evaluation["champion_version"] = known.version
        try:
            with tempfile.TemporaryDirectory() as folder:
                context.registry.download(known, Path(folder))
                bundle = load_bundle(Path(folder))
            evaluation["champion"], evaluation["champion_segments"] = _judge(bundle, holdout)
        except BundleError as unusable:  # a champion of other features cannot be compared, nor serve
            evaluation["champion_unusable"] = str(unusable)
    tracking.log_evaluation(run_id, evaluation)
    return _result(evaluation)


def _result(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {name: evaluation[name] for name in ("challenger", "champion")} | {"summary": _told(evaluation)}


def _judge(bundle: Bundle, holdout: pl.DataFrame) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    predicted = bundle.predict(holdout)
    return score(holdout["price"].to_numpy(), predicted), segments(holdout, predicted)


def _told(evaluation: dict[str, Any]) -> str:
    told = f"on {evaluation['rows']:,} rows: challenger MAE ${evaluation['challenger']['mae']:,.0f}"
    if evaluation["champion"]:
        return f"{told}, champion (version {evaluation['champion_version']}) MAE ${evaluation['champion']['mae']:,.0f}"
    if evaluation["champion_unusable"]:
        return f"{told}; the champion cannot be compared: {evaluation['champion_unusable']}"
    return f"{told}; there is no other champion to compare with"
