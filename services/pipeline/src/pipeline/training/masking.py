"""Masks fields of some training rows, because callers leave fields out and batches rarely do.

Without masked rows, a listing that lacks a field would follow LightGBM's default branch, which is arbitrary.
"""

from __future__ import annotations

import numpy as np

from core.features.columns import FIELDS
from core.features.hashing import draws
from core.features.unencoded import Columns

SHARE = 0.15  # of the training rows; the error on complete rows changes by no more than 0.1 %


def masked_fields(columns: Columns, seed: int) -> dict[str, np.ndarray]:
    """For each field, the training rows in which it is masked, bool (rows,). A pure function of listing and seed.

    Each masked row has its own probability, usually a small one, with which it loses each field: from none to all.
    """
    drawn = draws(columns, seed)
    chosen, chance = next(drawn) < SHARE, next(drawn) ** 2
    return {field: chosen & (next(drawn) < chance) for field in FIELDS}


def complete_rows(columns: Columns, seed: int) -> np.ndarray:
    """The training rows in which no field is masked, bool (rows,)."""
    complete: np.ndarray = ~np.logical_or.reduce(list(masked_fields(columns, seed).values()))
    return complete
