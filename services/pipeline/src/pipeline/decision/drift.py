"""Measures drift between new listings and those that the champion was trained on. Pure arithmetic on counts.

Each batch has a profile: the number of rows per declared bin of a number, and per category. Profiles add up, so the
reference of any set of batches is the sum of their profiles, and no old row is read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np
import polars as pl

# Edges of the bins. They are declared, not learned, because bins that follow the data cannot be added up. Stored
# profiles have these bins: a change of an edge needs a new PROFILE, too.
PROFILE = 1
BINS: dict[str, tuple[float, ...]] = {
    "price": (10e3, 50e3, 100e3, 150e3, 200e3, 250e3, 300e3, 350e3, 400e3, 500e3, 600e3, 800e3, 1e6, 2e6, 5e6),
    "house_size": (500, 750, 1_000, 1_250, 1_500, 1_750, 2_000, 2_500, 3_000, 4_000, 6_000, 10_000),
    "acre_lot": (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 1, 2, 5, 10, 100),
    "bed": (1, 2, 3, 4, 5, 6, 8, 12),
    "bath": (1, 2, 3, 4, 5, 6, 8, 12),
    "year of the last sale": (1980, 1990, 2000, 2005, 2010, 2015, 2018, 2020, 2021, 2022),
}
_COUNTS = ("bed", "bath")
CATEGORIES = ("status", "state")
PLACES = ("city", "zip_code")  # too many values for a PSI: only the share of unseen ones is measured
MISSING = "missing"
_UNITS = {
    "price": "dollars",
    "house_size": "square feet",
    "acre_lot": "acres",
    "bed": "bedrooms",
    "bath": "bathrooms",
    "year of the last sale": "as year of the last sale",
}
# Share of an empty bin, so that PSI stays finite: the usual choice.
_EMPTY = 1e-4
# A bin is new to the champion if it has less than _RARE of the reference rows, and more than _COMMON of the new rows.
_RARE, _COMMON = 0.01, 0.05


def labels(listings: pl.DataFrame) -> pl.DataFrame:
    """The bin or category of each row, as text, per profiled column."""
    year = listings["prev_sold_date"].str.slice(0, 4).cast(pl.Float64, strict=False)
    numbers = {name: year if name not in listings.columns else listings[name] for name in BINS}
    return listings.select(
        *(pl.Series(name, _binned(values.to_numpy(), BINS[name], bin_names(name))) for name, values in numbers.items()),
        pl.col(*CATEGORIES).fill_null(MISSING),
        (pl.col("city") + ", " + pl.col("state").fill_null("")).fill_null(MISSING).alias("city"),
        pl.col("zip_code").cast(pl.Int64, strict=False).cast(pl.String).fill_null(MISSING),
    )


def bin_names(column: str) -> list[str]:
    """Names of the bins of a numeric column, in order; the bin for missing values is last."""
    ends = BINS[column]
    inner = [_range(low, high, column) for low, high in pairwise(ends)]
    return [_range(None, ends[0], column), *inner, _range(ends[-1], None, column), MISSING]


def _range(low: float | None, high: float | None, column: str) -> str:
    if column in _COUNTS and low is not None and high is not None:  # whole numbers: the upper edge is excluded
        return f"{low:g}" if high - low == 1 else f"{low:g} to {high - 1:g}"
    plain = column.startswith("year")
    first, last = (None if end is None else f"{end:g}" if plain else f"{end:,.10g}" for end in (low, high))
    return f"under {last}" if first is None else f"from {first}" if last is None else f"{first} to {last}"


def _binned(values: np.ndarray, ends: tuple[float, ...], names: list[str]) -> np.ndarray:
    values = values.astype(np.float64)
    index = np.where(np.isnan(values), len(names) - 1, np.searchsorted(ends, values, side="right"))
    labels: np.ndarray = np.array(names)[index]
    return labels


def profile(labelled: pl.DataFrame) -> pl.DataFrame:
    """The profile: rows per bin and category, as `column`, `value`, `rows`."""
    return _sum(
        labelled.group_by(pl.col(name).alias("value"))
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .select(pl.lit(name).alias("column"), "value", "rows")
        for name in labelled.columns
    )


def add(profiles: list[pl.DataFrame]) -> pl.DataFrame:
    """The sum of several profiles."""
    return _sum(profiles)


def _sum(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("column", "value").agg(pl.col("rows").sum()).sort("column", "value")


def rows_of(profiled: pl.DataFrame) -> int:
    """Number of rows in a profile."""
    return int(profiled.filter(pl.col("column") == "status")["rows"].sum())


def values_of(profiled: pl.DataFrame, column: str) -> dict[str, int]:
    """Rows per bin or category of a column."""
    part = profiled.filter(pl.col("column") == column)
    return dict(zip(part["value"].to_list(), part["rows"].to_list(), strict=True))


@dataclass(frozen=True)
class Shift:
    """Drift of one column. `shares` are shares of rows by bin or category, in the order of the bins."""

    column: str
    psi: float | None  # None for places
    ks: float | None  # None for categories
    unseen: float | None  # share of rows in categories that the reference lacks; None for numbers
    shares: dict[str, tuple[float, float]]  # reference, new; empty for places

    @property
    def grown(self) -> list[str]:
        """Bins or categories that are new to the champion; if none is, the one that grew most."""
        names = list(self.shares)
        new = {name for name, (before, now) in self.shares.items() if before < _RARE and now > _COMMON}
        if self.column in BINS:  # includes neighbours that are as new, even if they are rare
            for order in (names, names[::-1]):
                for name, beside in pairwise(order):
                    if name in new and beside != MISSING and self.shares[beside][0] < _RARE and self.shares[beside][1]:
                        new.add(beside)
        most = max(names, key=lambda name: self.shares[name][1] - self.shares[name][0])
        return [name for name in names if name in new] or [most]

    @property
    def is_new(self) -> bool:
        """Whether the bins in `grown` were nearly absent from the reference."""
        return all(self.shares[name][0] < _RARE for name in self.grown)


def shifts(reference: pl.DataFrame, new: pl.DataFrame) -> list[Shift]:
    """Drift of every profiled column, from a reference profile to a new one."""
    result = []
    for column in (*BINS, *CATEGORIES, *PLACES):
        before, now = values_of(reference, column), values_of(new, column)
        total = sum(now.values()) or 1
        unseen = None if column in BINS else sum(n for v, n in now.items() if v not in before and v != MISSING) / total
        if column in PLACES:
            result.append(Shift(column, None, None, unseen, {}))
            continue
        names = bin_names(column) if column in BINS else sorted({*before, *now})
        first, second = _shares(before, names), _shares(now, names)
        distance = float(np.abs(np.cumsum(first - second)).max()) if column in BINS else None
        shares = dict(zip(names, zip(first.tolist(), second.tolist(), strict=True), strict=True))
        result.append(Shift(column, psi(first, second), distance, unseen, shares))
    return result


def psi(reference: np.ndarray, new: np.ndarray) -> float:
    """Population stability index of two vectors of shares. The usual reading: below 0.1 stable, above 0.2 moved."""
    before, now = np.maximum(reference, _EMPTY), np.maximum(new, _EMPTY)
    return float(((now - before) * np.log(now / before)).sum())


def _shares(counts: dict[str, int], names: list[str]) -> np.ndarray:
    values = np.array([counts.get(name, 0) for name in names], dtype=np.float64)
    shares: np.ndarray = values / max(1.0, values.sum())
    return shares


class SegmentError(TypedDict):
    """MAE of the rows in one bin or category."""

    column: str
    value: str
    rows: int
    mae: float


def errors_by_value(labelled: pl.DataFrame, absolute_error: np.ndarray) -> list[SegmentError]:
    """MAE per bin and category, without places."""
    frame = labelled.with_columns(error=absolute_error)
    return [
        {"column": name, "value": value, "rows": rows, "mae": mae}
        for name in (*BINS, *CATEGORIES)
        for value, rows, mae in frame.group_by(name, maintain_order=True)
        .agg(pl.len(), pl.col("error").mean().alias("mae"))
        .iter_rows()
    ]


def describe(column: str, values: list[str]) -> str:
    """Describe listings in these bins or categories. Example: `listings under 1,500 square feet`.

    Neighbouring bins are joined.
    """
    if column not in BINS:
        return f"listings {'in' if column == 'state' else f'with {column}'} {', '.join(values)}"
    names, ends = bin_names(column), (None, *BINS[column], None)
    runs: list[list[int]] = []
    for place in sorted(names.index(value) for value in values if value != MISSING):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    ranges = [_range(ends[run[0]], ends[run[-1] + 1], column) for run in runs]
    words = [f"{'' if text.startswith(('under', 'from')) else 'of '}{text} {_unit(column, text)}" for text in ranges]
    return "listings " + " or ".join([*words, *([f"without {column}"] if MISSING in values else [])])


def _unit(column: str, amount: str) -> str:
    return _UNITS[column].removesuffix("s") if amount == "1" else _UNITS[column]
