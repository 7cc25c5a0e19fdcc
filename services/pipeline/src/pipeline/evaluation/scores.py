"""Errors of a model in dollars, and coverage of its prediction intervals, overall and per segment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl

from core.model.estimates import Estimates
from pipeline.evaluation.record import Scores, SegmentScores

PRICE_BANDS = (0, 100_000, 200_000, 300_000, 500_000, 1_000_000, float("inf"))
_MIN_SEGMENT_ROWS = 30  # scores of fewer rows are mostly noise


def score(actual: np.ndarray, predicted: np.ndarray) -> Scores:
    """RMSE and MAE in dollars, R2, and MAPE as a fraction."""
    error = predicted - actual
    spread = float(((actual - actual.mean()) ** 2).sum())
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "r2": 1.0 - float((error**2).sum()) / spread if spread else 0.0,
        "mape": float((np.abs(error) / actual).mean()),
    }


def band_name(low: float, high: float) -> str:
    """Name of a price band. Example: `100,000 to 200,000`."""
    return f"{low:,.0f} to {high:,.0f}" if high < float("inf") else f"from {low:,.0f}"


def coverage(actual: np.ndarray, estimates: Estimates) -> Scores:
    """Share of the prices within their prediction intervals, and mean width in dollars; empty without intervals."""
    if estimates.low is None or estimates.high is None:
        return {}
    inside = (actual >= estimates.low) & (actual <= estimates.high)
    return {"coverage": float(inside.mean()), "width": float((estimates.high - estimates.low).mean())}


def segments(listings: pl.DataFrame, predicted: np.ndarray) -> dict[str, SegmentScores]:
    """Scores per price band, status and state; segments with fewer than 30 rows are left out."""
    actual = listings["price"].to_numpy()
    return {
        name: {"rows": int(inside.sum()), **score(actual[inside], predicted[inside])}
        for name, inside in _segments(listings, "price", actual)
    }


def interval_segments(listings: pl.DataFrame, estimates: Estimates) -> dict[str, SegmentScores]:
    """Coverage per band of the estimated price, status and state; segments with fewer than 30 rows are left out.

    Bands of the actual price would mislead: it is unknown at prediction time, and the cheapest of all houses with the
    same estimate are always below their interval.
    """
    actual = listings["price"].to_numpy()
    if estimates.low is None or estimates.high is None:
        return {}
    ends = np.stack([estimates.prices, estimates.low, estimates.high])
    return {
        name: {"rows": int(inside.sum()), **coverage(actual[inside], Estimates(*ends[:, inside]))}
        for name, inside in _segments(listings, "estimate", estimates.prices)
    }


def _segments(listings: pl.DataFrame, kind: str, dollars: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and rows of each price band, status and state that is large enough."""
    for low, high in pairwise(PRICE_BANDS):
        inside = (dollars >= low) & (dollars < high)
        if inside.sum() >= _MIN_SEGMENT_ROWS:
            yield f"{kind} {band_name(low, high)}", inside
    for column in ("status", "state"):
        for value in listings[column].drop_nulls().unique().sort():
            inside = (listings[column] == value).fill_null(False).to_numpy()
            if inside.sum() >= _MIN_SEGMENT_ROWS:
                yield f"{column} {value}", inside
