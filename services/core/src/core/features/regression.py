"""The hedonic regression with random effects that fits the encodings, from sums alone.

    log price = intercept + coefficients * x + status + state + city + zip code + noise

A mean of prices per place would mix the place with the houses that happened to be sold there. An effect of this
regression is the place alone. `x` are logarithms of sizes (`core.features.formulas.hedonic_inputs`). The coefficients
come from differences within cells: rows of the same status, state, city and zip code. The effects shrink towards zero,
so a zip code with no rows or few rows is valued like its city, and a city like its state. The strength of the shrinkage
is the ratio of the variance within categories to that between them (one-way analysis of variance, Searle, Casella and
McCulloch, Variance Components, chapter 3). A few Gauss-Seidel sweeps then solve Henderson's mixed model equations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.features.encodings import BROKER, EFFECTS, FOLDS, LIES_IN, Encodings, Key, Table
from core.features.sums import Sums

# Bounds of the shrinkage, in rows: the weight of zero in an effect. The analysis of variance may give less if groups
# are few and far apart. But a price may be a typing error, and then the effect of a category of one row would be that
# error.
_LEAST_PRIOR_ROWS, _MOST_PRIOR_ROWS = 2.0, 1e6
_RIDGE = 1.0  # added to sums of squares, so that coefficients exist for any rows; negligible for many rows
_SWEEPS = 3
_DECIMALS = 6  # of fitted numbers: far below their error, and short as text


def fit(sums: Sums, without: int | None = None) -> Encodings:
    """Fit the regression on all rows, or on all folds except `without`."""
    kept = [fold for fold in range(FOLDS) if fold != without]
    # added, not subtracted from the total: rounding must not carry information on the prices of the left-out fold
    moments, cell, broker = sums.moments[kept].sum(0), sums.cell[:, kept].sum(1), sums.broker[:, kept].sum(1)
    rows = cell[:, 0]
    seen = cell[rows > 0]
    within = moments - (seen / seen[:, :1]).T @ seen
    ridge = _RIDGE * np.eye(len(within) - 2)
    coefficients = np.round(np.linalg.solve(within[1:-1, 1:-1] + ridge, within[1:-1, -1]), _DECIMALS)
    residual_of_z = np.concatenate([[0.0], -coefficients, [1.0]])
    intercept = round(float(moments[0] @ residual_of_z / moments[0, 0]), _DECIMALS) if moments[0, 0] else 0.0
    residual_of_z[0] = -intercept
    squares = float(residual_of_z @ moments @ residual_of_z)
    tables = _crossed(sums, rows, cell @ residual_of_z, squares)
    sizes, totals = broker[:, 0].copy(), broker @ residual_of_z
    sizes[-1] = totals[-1] = 0.0
    effect = totals / (sizes + _prior_rows(sizes, totals, squares))
    tables[BROKER] = _table(sums.keys[BROKER], effect, sizes)
    return Encodings(intercept, coefficients, tables, {name: _within(sums, name, rows) for name in LIES_IN})


def _within(sums: Sums, name: str, rows: np.ndarray) -> np.ndarray:
    """For each place of a column, and for an unknown place, the wider place of most of its rows.

    `rows` are the rows of each cell.
    """
    narrow, wide = (sums.cells[:, EFFECTS.index(column)] for column in (name, LIES_IN[name]))
    unknown = len(sums.keys[LIES_IN[name]])
    pair, which = np.unique(narrow * (unknown + 1) + wide, return_inverse=True)
    narrow, wide = np.divmod(pair, unknown + 1)
    count = np.bincount(which, rows, len(pair)) * (wide < unknown)
    order = np.lexsort((-wide, count))  # the last one of a place wins: the most rows, then the first in order
    order = order[count[order] > 0]
    within = np.full(len(sums.keys[name]) + 1, unknown, dtype=np.int64)
    within[narrow[order]] = wide[order]
    within[-1] = unknown
    return within


def _crossed(sums: Sums, rows: np.ndarray, residuals: np.ndarray, squares: float) -> dict[str, Table]:
    """Fit the effects of EFFECTS.

    Args:
        sums: for the cells and their keys.
        rows: of each cell.
        residuals: sum of the residuals of each cell.
        squares: sum of the squared residuals of all rows.
    """
    groups = [sums.cells[:, at] for at in range(len(EFFECTS))]
    sizes = [np.bincount(group, rows, len(sums.keys[name]) + 1) for name, group in zip(EFFECTS, groups, strict=True)]
    effects = [np.zeros(len(size)) for size in sizes]
    priors: list[float] = []
    for sweep in range(1 + _SWEEPS):
        for at, (group, size) in enumerate(zip(groups, sizes, strict=True)):
            residuals = residuals + rows * effects[at][group]
            totals = np.bincount(group, residuals, len(size))
            size[-1] = totals[-1] = 0.0  # rows of unknown category carry no information on any category
            if sweep == 0:
                priors.append(_prior_rows(size, totals, squares))
            effects[at] = totals / (size + priors[at])
            if sweep == 0:
                squares += float((size * effects[at] ** 2 - 2 * effects[at] * totals).sum())
            residuals = residuals - rows * effects[at][group]
    return {
        name: _table(sums.keys[name], effect, size) for name, effect, size in zip(EFFECTS, effects, sizes, strict=True)
    }


def _prior_rows(sizes: np.ndarray, totals: np.ndarray, squares: float) -> float:
    """The ratio of the variance within groups to that between them, within the bounds of the shrinkage.

    Args:
        sizes: rows of each group.
        totals: sum of the residuals of each group.
        squares: sum of the squared residuals of all rows.
    """
    sizes, totals = sizes[sizes > 0], totals[sizes > 0]
    rows = sizes.sum()
    if len(sizes) < 2 or rows <= len(sizes):
        return _MOST_PRIOR_ROWS
    explained = float((totals**2 / sizes).sum())
    within = max(squares - explained, 0.0) / (rows - len(sizes))
    between = (explained - (len(sizes) - 1) * within) / (rows - (sizes**2).sum() / rows)
    return float(np.clip(within / between, _LEAST_PRIOR_ROWS, _MOST_PRIOR_ROWS)) if between > 0 else _MOST_PRIOR_ROWS


def _table(keys: Sequence[Key], effect: np.ndarray, rows: np.ndarray) -> Table:
    return Table({key: at for at, key in enumerate(keys)}, np.round(effect, _DECIMALS) + 0.0, rows)
