"""What is learned of places, statuses and brokers: a hedonic regression with random effects, from sums alone.

    log price = intercept + coefficients * x + status + state + city + zip code + noise

A mean of prices per place mixes the place with the houses that happened to be sold there; an effect of this regression
is the place alone. `x` are a few logarithms of sizes (`core.features`). The coefficients come from differences within
cells, rows of the same status, state, city and zip code. The effects are drawn towards zero, so a zip code that was
rarely or never seen is valued as its city, and a city as its state. How strongly follows from the data: the ratio of
the variance within categories to that between them (one-way analysis of variance, Searle, Casella and McCulloch,
Variance Components, chapter 3), then a few Gauss-Seidel sweeps over Henderson's mixed model equations.

All of it is computed from `Sums`, which add up over batches and are kept apart per fold, so that a row can be encoded
with what the other folds teach: its own price never reaches its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Key = str | float

FOLDS = 5
EFFECTS = ("status", "state", "city", "zip_code")  # each is what the ones before it leave unexplained
BROKER = "brokered_by"
COLUMNS = (*EFFECTS, BROKER)
LIES_IN = {"zip_code": "city", "city": "state"}  # narrower places first

# Weight of zero in an effect, in rows. The analysis of variance may answer less where groups are few and far apart;
# but a price may be a typing error, and then a category of one row would be that error.
_LEAST_PRIOR_ROWS, _MOST_PRIOR_ROWS = 2.0, 1e6
_RIDGE = 1.0  # added to sums of squares: coefficients exist for any rows, and are unchanged by it for many
_SWEEPS = 3
_DECIMALS = 6  # of what is learned: far below its error, and short as text


@dataclass(frozen=True)
class Table:
    """Effect and rows of each category of one column; both arrays end with those of one that was never seen."""

    index: Mapping[Key, int]
    effect: np.ndarray  # float64, (categories + 1,), in logarithms of the price
    rows: np.ndarray  # float64, (categories + 1,)


@dataclass(frozen=True)
class Encodings:
    """A fitted regression."""

    intercept: float
    coefficients: np.ndarray  # float64, in the order of x
    tables: Mapping[str, Table]  # by column, those of COLUMNS
    # by column, those of LIES_IN: int64, (categories + 1,), position of the place that each lies in, or the last one
    within: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        tables = {
            name: list(
                map(list, zip(table.index, table.effect.tolist(), table.rows.astype(int).tolist(), strict=False))
            )
            for name, table in self.tables.items()
        }
        within = {name: wider[:-1].tolist() for name, wider in self.within.items()}
        return {
            "intercept": self.intercept,
            "coefficients": self.coefficients.tolist(),
            "tables": tables,
            "within": within,
        }

    @staticmethod
    def from_json(known: Mapping[str, Any]) -> Encodings:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        tables = {name: _table_from_rows(known["tables"][name]) for name in COLUMNS}
        coefficients = np.array(known["coefficients"], dtype=np.float64)
        within = {
            name: _within_from_list(known["within"][name], tables[name], tables[LIES_IN[name]]) for name in LIES_IN
        }
        return Encodings(float(known["intercept"]), coefficients, tables, within)


def _within_from_list(places: Sequence[int], table: Table, wider: Table) -> np.ndarray:
    found = np.array([*places, len(wider.index)], dtype=np.int64)
    if len(found) != len(table.rows) or found.min() < 0 or found.max() > len(wider.index):
        raise ValueError("a place lies in none of the places that are known")
    return found


def _table_from_rows(rows: Sequence[tuple[Key, float, int]]) -> Table:
    effect = np.array([*(row[1] for row in rows), 0.0], dtype=np.float64)
    count = np.array([*(row[2] for row in rows), 0.0], dtype=np.float64)
    return Table({row[0]: at for at, row in enumerate(rows)}, effect, count)


@dataclass(frozen=True)
class Sums:
    """Sums over rows of z = (1, x, y), y the logarithm of the price; d is the length of z."""

    keys: Mapping[str, Sequence[Key]]  # categories by column, sorted
    cells: np.ndarray  # int64, (cells, len(EFFECTS)): positions in keys; len(keys) where the row has none
    cell: np.ndarray  # float64, (cells, FOLDS, d): sum of z
    broker: np.ndarray  # float64, (brokers + 1, FOLDS, d): sum of z; the last one of rows without broker
    moments: np.ndarray  # float64, (FOLDS, d, d): sum of z z'

    @staticmethod
    def of(keys: Mapping[str, Sequence[Key]], codes: Mapping[str, np.ndarray], z: np.ndarray, fold: np.ndarray) -> Sums:
        """Sums of rows.

        Args:
            keys: categories by column, sorted.
            codes: positions in `keys` by column, (rows,); len(keys) where a row has none.
            z: float64, (rows, d).
            fold: (rows,), below FOLDS.
        """
        cells, cell_of = _cells(keys, np.stack([codes[name] for name in EFFECTS], axis=1))
        moments = np.stack([z[fold == at].T @ z[fold == at] for at in range(FOLDS)])
        cell, broker = (
            _sums(group, groups, fold, z)
            for group, groups in ((cell_of, len(cells)), (codes[BROKER], len(keys[BROKER]) + 1))
        )
        return Sums(keys, cells, cell, broker, moments)

    @staticmethod
    def total(parts: Sequence[Sums]) -> Sums:
        """Sums of the rows of all parts."""
        keys = {name: in_order({key for part in parts for key in part.keys[name]}) for name in COLUMNS}
        placed = [{name: positions(part.keys[name], keys[name]) for name in COLUMNS} for part in parts]
        every = np.concatenate(
            [
                np.stack([here[name][part.cells[:, at]] for at, name in enumerate(EFFECTS)], axis=1)
                for part, here in zip(parts, placed, strict=True)
            ]
        )
        cells, cell_of = _cells(keys, every)
        width = parts[0].moments.shape[-1]
        cell, broker = (np.zeros((rows, FOLDS, width)) for rows in (len(cells), len(keys[BROKER]) + 1))
        begin = 0
        for part, here in zip(parts, placed, strict=True):
            cell[cell_of[begin : begin + len(part.cells)]] += part.cell  # cells of a part are different ones
            broker[here[BROKER]] += part.broker
            begin += len(part.cells)
        return Sums(keys, cells, cell, broker, np.sum([part.moments for part in parts], axis=0))


def in_order(keys: Iterable[Key]) -> list[Key]:
    """The keys of one column, sorted."""
    return sorted(keys)


def positions(keys: Iterable[Key], known: Sequence[Key] | Mapping[Key, int]) -> np.ndarray:
    """Position in `known` of each key, or len(known); and as one more that of no key, len(known) too."""
    if keys is known:
        return np.arange(len(known) + 1)
    index = known if isinstance(known, Mapping) else {key: at for at, key in enumerate(known)}
    return np.array([*(index.get(key, len(index)) for key in keys), len(index)], dtype=np.int64)


def _cells(keys: Mapping[str, Sequence[Key]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows, and for each row which of them it is."""
    sizes = [len(keys[name]) + 1 for name in EFFECTS]
    number = np.zeros(len(rows), dtype=np.int64)
    for at, size in enumerate(sizes):
        number = number * size + rows[:, at]
    unique, which = np.unique(number, return_inverse=True)
    cells = np.empty((len(unique), len(sizes)), dtype=np.int64)
    for at in reversed(range(len(sizes))):
        unique, cells[:, at] = np.divmod(unique, sizes[at])
    return cells, which


def _sums(group: np.ndarray, groups: int, fold: np.ndarray, z: np.ndarray) -> np.ndarray:
    where, length = group * FOLDS + fold, groups * FOLDS
    columns = [np.bincount(where, z[:, at], length) for at in range(z.shape[1])]
    return np.stack(columns, axis=1).reshape(groups, FOLDS, z.shape[1])


def to_arrays(sums: Sums) -> dict[str, np.ndarray]:
    """Sums without their keys, as arrays; most folds of most groups have no rows, and are left out."""
    found = {"cells": sums.cells, "moments": sums.moments}
    for name, values in (("cell", sums.cell), ("broker", sums.broker)):
        flat = values.reshape(-1, values.shape[-1])
        found[f"{name}_at"] = np.flatnonzero(flat[:, 0])
        found[f"{name}_sums"] = flat[found[f"{name}_at"]]
    return found


def from_arrays(keys: Mapping[str, Sequence[Key]], arrays: Mapping[str, np.ndarray]) -> Sums:
    """What `to_arrays` gave."""

    def dense(name: str, groups: int) -> np.ndarray:
        out = np.zeros((groups * FOLDS, arrays["moments"].shape[-1]))
        out[arrays[f"{name}_at"]] = arrays[f"{name}_sums"]
        return out.reshape(groups, FOLDS, -1)

    cell, broker = dense("cell", len(arrays["cells"])), dense("broker", len(keys[BROKER]) + 1)
    return Sums(keys, arrays["cells"], cell, broker, arrays["moments"])


def fit(sums: Sums, without: int | None = None) -> Encodings:
    """The regression on all rows, or on those of all folds but one."""
    kept = [fold for fold in range(FOLDS) if fold != without]
    # added up, not subtracted from the whole: rounding, too, must not tell a fold of its own prices
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
    """For each place of a column, and for none, the wider place of most of its rows, of the rows of each cell."""
    narrow, wide = (sums.cells[:, EFFECTS.index(column)] for column in (name, LIES_IN[name]))
    nowhere = len(sums.keys[LIES_IN[name]])
    pair, which = np.unique(narrow * (nowhere + 1) + wide, return_inverse=True)
    narrow, wide = np.divmod(pair, nowhere + 1)
    count = np.bincount(which, rows, len(pair)) * (wide < nowhere)
    order = np.lexsort((-wide, count))  # the last one of a place stands: the most rows, then the first in order
    order = order[count[order] > 0]
    found = np.full(len(sums.keys[name]) + 1, nowhere, dtype=np.int64)
    found[narrow[order]] = wide[order]
    found[-1] = nowhere
    return found


def _crossed(sums: Sums, rows: np.ndarray, left: np.ndarray, squares: float) -> dict[str, Table]:
    """Tables of EFFECTS, of the rows of each cell, the sum of their residuals, and the sum of squares of all."""
    groups = [sums.cells[:, at] for at in range(len(EFFECTS))]
    sizes = [np.bincount(group, rows, len(sums.keys[name]) + 1) for name, group in zip(EFFECTS, groups, strict=True)]
    effects = [np.zeros(len(size)) for size in sizes]
    priors: list[float] = []
    for sweep in range(1 + _SWEEPS):
        for at, (group, size) in enumerate(zip(groups, sizes, strict=True)):
            left = left + rows * effects[at][group]
            totals = np.bincount(group, left, len(size))
            size[-1] = totals[-1] = 0.0  # rows without a category teach nothing about one
            if sweep == 0:
                priors.append(_prior_rows(size, totals, squares))
            effects[at] = totals / (size + priors[at])
            if sweep == 0:
                squares += float((size * effects[at] ** 2 - 2 * effects[at] * totals).sum())
            left = left - rows * effects[at][group]
    return {
        name: _table(sums.keys[name], effect, size) for name, effect, size in zip(EFFECTS, effects, sizes, strict=True)
    }


def _prior_rows(sizes: np.ndarray, totals: np.ndarray, squares: float) -> float:
    """Variance within groups by that between them, of the rows of each group, their sums, and the sum of squares."""
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
