"""Encodings: the fitted effects of places, statuses and brokers, as tables by category.

`core.features.regression` fits them. `Key` is a category; a city's key contains its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Key = str | float

FOLDS = 5
EFFECTS = ("status", "state", "city", "zip_code")  # each explains what the effects before it do not
BROKER = "brokered_by"
COLUMNS = (*EFFECTS, BROKER)
LIES_IN = {"zip_code": "city", "city": "state"}  # narrower places first


@dataclass(frozen=True)
class Table:
    """Effect and rows of each category of one column. The last entry of both arrays is for unknown categories."""

    index: Mapping[Key, int]
    effect: np.ndarray  # float64, (categories + 1,), in logarithms of the price
    rows: np.ndarray  # float64, (categories + 1,)


@dataclass(frozen=True)
class Encodings:
    """A fitted regression."""

    intercept: float
    coefficients: np.ndarray  # float64, in the order of x
    tables: Mapping[str, Table]  # by column of COLUMNS
    # by column of LIES_IN, int64, (categories + 1,): position of the wider place that contains each category; the last
    # position of the wider table if it is unknown
    within: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    def from_json(content: Mapping[str, Any]) -> Encodings:
        """Inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the content has another form.
        """
        tables = {name: _table_from_rows(content["tables"][name]) for name in COLUMNS}
        coefficients = np.array(content["coefficients"], dtype=np.float64)
        within = {
            name: _within_from_list(content["within"][name], tables[name], tables[LIES_IN[name]]) for name in LIES_IN
        }
        return Encodings(float(content["intercept"]), coefficients, tables, within)


def _within_from_list(places: Sequence[int], table: Table, wider: Table) -> np.ndarray:
    within = np.array([*places, len(wider.index)], dtype=np.int64)
    if len(within) != len(table.rows) or within.min() < 0 or within.max() > len(wider.index):
        raise ValueError("a place is in none of the places of the encodings")
    return within


def _table_from_rows(rows: Sequence[tuple[Key, float, int]]) -> Table:
    effect = np.array([*(row[1] for row in rows), 0.0], dtype=np.float64)
    count = np.array([*(row[2] for row in rows), 0.0], dtype=np.float64)
    return Table({row[0]: at for at, row in enumerate(rows)}, effect, count)


def in_order(keys: Iterable[Key]) -> list[Key]:
    """The keys of one column, sorted."""
    return sorted(keys)


def positions(keys: Iterable[Key], table: Sequence[Key] | Mapping[Key, int]) -> np.ndarray:
    """Position of each key in `table`, or len(table) if it is not there, int64 (keys + 1,).

    The additional last entry is len(table), the position of unknown categories.
    """
    if keys is table:
        return np.arange(len(table) + 1)
    index = table if isinstance(table, Mapping) else {key: at for at, key in enumerate(table)}
    return np.array([*(index.get(key, len(index)) for key in keys), len(index)], dtype=np.int64)
