"""Listings as numbers, before any fitted encodings are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.features.columns import FIELDS, PLAIN_POSITION
from core.features.encodings import COLUMNS, Encodings, Key, in_order, positions
from core.features.formulas import UPPER_LIMIT, plain_features, years_since

_SLICE = 50_000  # rows that are Python objects at a time, because these use much memory


@dataclass(frozen=True)
class Columns:
    """Features that need no fitted encodings, and the categories of each listing. O(rows)."""

    plain: np.ndarray  # float32, (rows, len(PLAIN)); NaN where unknown
    # categories by column, in the order of their codes: sorted, or in the order of the encodings after `learned`
    keys: Mapping[str, Sequence[Key] | Mapping[Key, int]]
    codes: Mapping[str, np.ndarray]  # int32, (rows,), by column: positions in keys; len(keys) where unknown

    @staticmethod
    def of(raw: pl.DataFrame) -> Columns:
        """Columns of raw listings in `RAW_SCHEMA`; the target may be missing."""
        index: dict[str, dict[Key, int]] = {name: {} for name in COLUMNS}
        plain: list[np.ndarray] = []
        codes: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        for part in raw.iter_slices(_SLICE) if raw.height else [raw]:
            plain.append(_plain(part))
            for name, values in _categories(part).items():
                codes[name].append(_coded(values, index[name]))
        keys = {name: in_order(index[name]) for name in COLUMNS}
        ordered = {name: positions(list(index[name]), keys[name]).astype(np.int32) for name in COLUMNS}
        return Columns(
            np.concatenate(plain), keys, {name: ordered[name][np.concatenate(codes[name])] for name in COLUMNS}
        )

    @staticmethod
    def together(parts: Sequence[Columns]) -> Columns:
        """The listings of all parts. All parts must come from `learned` with the same encodings."""
        codes = {name: np.concatenate([part.codes[name] for part in parts]) for name in COLUMNS}
        return Columns(np.concatenate([part.plain for part in parts]), parts[0].keys, codes)

    def take(self, rows: slice | np.ndarray) -> Columns:
        """A selection of the rows. A slice shares their memory."""
        return Columns(self.plain[rows], self.keys, {name: codes[rows] for name, codes in self.codes.items()})

    def learned(self, encodings: Encodings) -> Columns:
        """The same listings with codes of these encodings, so that several calls of `matrix` share one look-up."""
        index = {name: table.index for name, table in encodings.tables.items()}
        return Columns(self.plain, index, self.positions_in(encodings))

    def positions_in(self, encodings: Encodings) -> dict[str, np.ndarray]:
        """Positions of each row's categories in the tables of the encodings, int32 (rows,), by column."""
        lookup = {name: positions(self.keys[name], encodings.tables[name].index) for name in COLUMNS}
        return {name: place.astype(np.int32)[self.codes[name]] for name, place in lookup.items()}

    def without(self, unknown: Mapping[str, np.ndarray | bool]) -> Columns:
        """The same listings with fields masked: as if the listing had been sent without them.

        Args:
            unknown: by field of `FIELDS`, the rows to mask as bool (rows,), or True for all rows.
        """
        plain, codes = self.plain.copy(), dict(self.codes)
        for field, rows in unknown.items():
            for name in FIELDS[field]:
                if name in PLAIN_POSITION:
                    plain[:, PLAIN_POSITION[name]][rows] = np.nan
                if name in codes:
                    codes[name] = np.where(rows, len(self.keys[name]), codes[name])
        return Columns(plain, self.keys, codes)


def city_key(city: Key | None, state: Key | None) -> Key | None:
    """The category of a city. It contains the state, because cities of different states share names."""
    return None if city is None else f"{city}, {state or ''}"


def _categories(raw: pl.DataFrame) -> dict[str, Sequence[Key | None]]:
    """The category of each row, by column."""
    values: dict[str, Sequence[Key | None]] = {name: raw[name].to_list() for name in COLUMNS}
    return values | {"city": list(map(city_key, values["city"], values["state"]))}


def _coded(values: Sequence[Key | None], index: dict[Key, int]) -> np.ndarray:
    """Positions in `index`, int32 (rows,); -1 where there is no category. Adds new categories to `index`."""
    codes = [-1 if key is None or key != key else index.setdefault(key, len(index)) for key in values]
    return np.array(codes, dtype=np.int32)


def _plain(raw: pl.DataFrame) -> np.ndarray:
    values = [raw[name].to_numpy().astype(np.float64) for name in UPPER_LIMIT]
    years = np.array([years_since(day) for day in raw["prev_sold_date"].to_list()], dtype=np.float64)
    with np.errstate(invalid="ignore"):  # comparisons with NaN are false
        return np.stack(plain_features(values, years, np.where), axis=1).astype(np.float32)
