"""Stage 6: challenger and champion on one holdout, the test splits of all batches so far, which both see whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.bundle import Bundle, load_bundle
from core.errors import BundleError
from core.registry import ModelVersion
from pipeline import rows
from pipeline.context import Context
from pipeline.gate import gain_interval, guarded_segments, judge, row_blocks
from pipeline.scores import coverage, score, segments
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Judge the model of a run; evaluation and verdict become an artifact of that run.

    They stand until another batch or another champion came, and for good once promote acted on them.
    """
    tracking = Tracking(context.settings, context.registry)
    champion = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    batches = context.ledger.decided_batches()
    found = tracking.find_evaluation(run_id)
    if (
        found
        and "promoted" in found
        and (context.ledger.promotion(run_id) or _stands(found, run_id, champion, batches))
    ):
        return _result(found)
    holdout = rows.read_split(context.store, batches, "test")
    evaluation: dict[str, Any] = {
        "batches": batches,
        "rows": holdout.height,
        "champion": None,
        "champion_version": None,
        "champion_segments": None,
        "champion_unusable": None,
    }
    usable = None
    if champion and champion.run_id != run_id:
        evaluation["champion_version"] = champion.version
        try:
            usable = _bundle(context, champion)
        except BundleError as unusable:  # a champion of other features cannot be compared, nor serve
            evaluation["champion_unusable"] = str(unusable)
    evaluation |= compare(holdout, tracking.bundle(run_id), usable, context.settings)
    promoted, reason = judge(evaluation, context.settings)
    evaluation |= {"promoted": promoted, "reason": reason}
    tracking.log_evaluation(run_id, evaluation)
    return _result(evaluation)


def compare(
    holdout: pl.DataFrame, challenger: Bundle, champion: Bundle | None, settings: PipelineSettings
) -> dict[str, Any]:
    """Errors of both models on the holdout: over all, per segment, and how sure their difference is.

    Beside the errors stands how many prices are within their ranges, for people: no rule of the gate asks for it.
    """
    actual = holdout["price"].to_numpy()
    estimates = challenger.estimate(holdout)
    priced = estimates.prices
    found: dict[str, Any] = {
        "challenger": score(actual, priced) | coverage(actual, estimates),
        "challenger_segments": segments(holdout, priced),
    }
    if champion is None:
        return found
    estimates = champion.estimate(holdout)
    before = estimates.prices
    errors = np.abs(before - actual), np.abs(priced - actual)
    blocks = row_blocks(holdout["zip_code"].to_numpy())
    return found | {
        "champion": score(actual, before) | coverage(actual, estimates),
        "champion_segments": segments(holdout, before),
        "interval": gain_interval(*errors, blocks, settings.gain_confidence, settings.seed),
        "guarded_segments": guarded_segments(holdout, before, *errors),
    }


def _stands(found: dict[str, Any], run_id: str, champion: ModelVersion | None, batches: list[int]) -> bool:
    """Whether an evaluation made before would come out the same again."""
    if champion and champion.run_id == run_id:
        return True  # the alias was moved because of it
    return (found["batches"], found["champion_version"]) == (batches, champion.version if champion else None)


def _bundle(context: Context, version: ModelVersion) -> Bundle:
    with tempfile.TemporaryDirectory() as folder:
        context.registry.download(version, Path(folder))
        return load_bundle(Path(folder))


def _result(evaluation: dict[str, Any]) -> dict[str, Any]:
    told = {name: evaluation[name] for name in ("challenger", "champion", "promoted", "reason")}
    verdict, following = ("wins", "promote") if evaluation["promoted"] else ("loses", "reject")
    return told | {
        "next": following,
        "summary": f"on {evaluation['rows']:,} rows the challenger {verdict}: {evaluation['reason']}",
    }
