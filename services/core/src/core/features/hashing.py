"""Pseudo-random numbers that are pure functions of a listing: folds of the encodings, and draws for masking."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from core.features.columns import NUMERIC
from core.features.encodings import FOLDS
from core.features.unencoded import Columns


def folds(raw: pl.DataFrame) -> np.ndarray:
    """The fold of each listing, uint8 (rows,). It depends on the listing only, and not on its price."""
    mixed = np.zeros(raw.height, dtype=np.uint64)
    for name in ("street", "zip_code", *NUMERIC):
        bits = (raw[name].fill_null(-1.0).to_numpy() + 0.0).view(np.uint64)
        mixed = _mix(mixed ^ bits)
    return (mixed % np.uint64(FOLDS)).astype(np.uint8)


def draws(columns: Columns, seed: int) -> Iterator[np.ndarray]:
    """Endless draws from [0, 1), float64 (rows,). Each is a pure function of the listing and the seed."""
    mixed = np.full(len(columns.plain), seed, dtype=np.uint64)
    for values in columns.plain.T:
        mixed = _mix(mixed ^ (np.nan_to_num(values.astype(np.float64), nan=-1.0) + 0.0).view(np.uint64))
    while True:
        mixed = _mix(mixed)
        yield (mixed >> np.uint64(11)) * 2.0**-53


def _mix(values: np.ndarray) -> np.ndarray:
    """Finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
