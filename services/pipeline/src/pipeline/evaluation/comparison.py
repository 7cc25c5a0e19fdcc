"""Compares challenger and champion on the rows of one holdout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from core.model.bundle import Bundle
from core.stores.registry import ModelVersion
from pipeline.evaluation import holdout
from pipeline.evaluation.gate import gain_interval, guarded_segments, row_blocks
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.scores import coverage, score, segments
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings


def compare(
    rows: Sequence[Deferred[pl.DataFrame]],
    batches: list[int],
    challenger: Bundle,
    champion: Bundle | None,
    settings: PipelineSettings,
) -> Evaluation:
    """Errors of both models on the holdout, overall and per segment, and the confidence interval of the gain.

    The evaluation also has the coverage of the prediction intervals, for people: no rule of the gate uses it.
    """
    listings, estimates = holdout.estimate(rows, challenger.estimate)
    actual = listings["price"].to_numpy()
    priced = estimates.prices
    evaluation: Evaluation = {
        "batches": batches,
        "rows": listings.height,
        "challenger": score(actual, priced) | coverage(actual, estimates),
        "challenger_segments": segments(listings, priced),
        "champion": None,
        "champion_version": None,
        "champion_segments": None,
        "champion_unusable": None,
    }
    if champion is None:
        return evaluation
    _, estimates = holdout.estimate(rows, champion.estimate)
    before = estimates.prices
    errors = np.abs(before - actual), np.abs(priced - actual)
    blocks = row_blocks(listings["zip_code"].to_numpy())
    return {
        **evaluation,
        "champion": score(actual, before) | coverage(actual, estimates),
        "champion_segments": segments(listings, before),
        "interval": gain_interval(*errors, blocks, settings.gain_confidence, settings.seed),
        "guarded_segments": guarded_segments(listings, before, *errors),
    }


def still_valid(evaluation: Evaluation, run_id: str, champion: ModelVersion | None, batches: list[int]) -> bool:
    """Whether an earlier evaluation of this run would have the same result today."""
    if champion and champion.run_id == run_id:
        return True  # this evaluation made the run's model the champion
    current = batches, champion.version if champion else None
    return (evaluation["batches"], evaluation["champion_version"]) == current
