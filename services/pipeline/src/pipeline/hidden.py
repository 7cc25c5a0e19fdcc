"""Fields that training takes out of some rows: callers leave fields out, and batches hardly ever do.

Without such rows the trees would send a listing that lacks a field wherever LightGBM's default happens to point.
"""

from __future__ import annotations

import numpy as np

from core.features import FIELDS, Columns, draws

SHARE = 0.15  # of the training rows; complete rows are priced as well as without, to 0.1 %


def hidden(columns: Columns, seed: int) -> dict[str, np.ndarray]:
    """By field, from which training rows it is taken, bool (rows,): a pure function of each listing and the seed.

    Each of these rows lacks every field with a chance of its own, most often a small one: from none of them to all.
    """
    drawn = draws(columns, seed)
    chosen, chance = next(drawn) < SHARE, next(drawn) ** 2
    return {field: chosen & (next(drawn) < chance) for field in FIELDS}
