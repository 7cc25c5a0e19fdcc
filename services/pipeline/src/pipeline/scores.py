"""Errors of a model in dollars, for all rows and per segment."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

PRICE_BANDS = (0, 100_000, 200_000, 300_000, 500_000, 1_000_000, float("inf"))
_SMALLEST_SEGMENT = 30  # rows; fewer say nothing


def score(actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
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
    """How a band of prices is called, as `100,000 to 200,000`."""
    return f"{low:,.0f} to {high:,.0f}" if high < float("inf") else f"from {low:,.0f}"


def segments(listings: pl.DataFrame, predicted: np.ndarray) -> dict[str, dict[str, Any]]:
    """Scores per price band, status and state; those of fewer than 30 rows are left out."""
    actual = listings["price"].to_numpy()
    found: dict[str, dict[str, Any]] = {}
    for low, high in pairwise(PRICE_BANDS):
        found[f"price {band_name(low, high)}"] = _part((actual >= low) & (actual < high), actual, predicted)
    for column in ("status", "state"):
        for value in listings[column].drop_nulls().unique().sort():
            inside = (listings[column] == value).fill_null(False).to_numpy()
            found[f"{column} {value}"] = _part(inside, actual, predicted)
    return {name: part for name, part in found.items() if part["rows"] >= _SMALLEST_SEGMENT}


def _part(inside: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    count = int(inside.sum())
    return {"rows": count, **(score(actual[inside], predicted[inside]) if count else {})}
