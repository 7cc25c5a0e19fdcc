"""Prices a holdout piece by piece, and keeps only what scores and segments need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from core.model.estimates import Estimates
from pipeline.rows import Deferred
from pipeline.training.pieces import pieces

KEPT = ("price", "status", "state", "zip_code")


def estimate(
    holdout: Sequence[Deferred[pl.DataFrame]], model: Callable[[pl.DataFrame], Estimates]
) -> tuple[pl.DataFrame, Estimates]:
    """The columns `KEPT` of a holdout with at least one row, and a model's estimates of its rows."""
    kept, estimated = [], []
    for piece in pieces(holdout):
        listings = piece.read()
        kept.append(listings.select(KEPT))
        estimated.append(model(listings))
    prices = np.concatenate([one.prices for one in estimated])
    low, high = _together([one.low for one in estimated]), _together([one.high for one in estimated])
    return pl.concat(kept, rechunk=True), Estimates(prices, low, high)


def _together(ends: list[np.ndarray | None]) -> np.ndarray | None:
    present = [end for end in ends if end is not None]
    return np.concatenate(present) if present else None
