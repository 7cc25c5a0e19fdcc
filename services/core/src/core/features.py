"""The one definition of features, for training and for serving.

Raw listings have the twelve fields of the data API (`RAW_SCHEMA`). `build_features` turns them into the matrix that
the model sees; what it needs to have learned (`core.encodings`) travels in the model bundle. Raise `DEFINITION` with
every change that alters a matrix: the fingerprint changes with it, and no model meets features it was not trained on.

The formulas are written once, for columns (arrays) and for one listing (floats) alike: they use operators, `np.log`,
and a `Where`, which is numpy's for columns and `either` for one. A frame of one row costs thirty times what they do.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from core.encodings import BROKER, COLUMNS, FOLDS, LIES_IN, Encodings, Key, Sums, fit, in_order, positions

Where = Callable[[Any, Any, Any], Any]  # of a condition: the second where it holds, else the third

DEFINITION = 4

RAW_SCHEMA: dict[str, pl.DataType] = {
    "brokered_by": pl.Float64(),  # encoded id
    "status": pl.String(),
    "price": pl.Float64(),  # US dollars
    "bed": pl.Float64(),
    "bath": pl.Float64(),
    "acre_lot": pl.Float64(),  # acres
    "street": pl.Float64(),  # encoded id
    "city": pl.String(),
    "state": pl.String(),
    "zip_code": pl.Float64(),  # a number that lost its leading zeros
    "house_size": pl.Float64(),  # square feet
    "prev_sold_date": pl.String(),  # ISO date
}
TARGET = "price"
NUMERIC = ("bed", "bath", "acre_lot", "house_size")
PLAIN = (
    *NUMERIC,
    "size_per_room",
    "bath_per_bed",
    "lot_coverage",
    "years_since_sale",
    "zip_code",  # as a number: neighbours have similar ones
)
FEATURES = (
    *PLAIN,
    "status",  # position in the learned list of statuses
    "state_premium",  # premiums in logarithms of the price, each with those of the wider places in it
    "city_premium",
    "zip_premium",
    "city_rows",
    "zip_rows",
    "broker_premium",
    "broker_rows",
    "hedonic",  # logarithm of the price that the regression gives
)
CATEGORICAL = ("status",)
# By field of a listing, the columns of PLAIN and of COLUMNS that cannot be made without it.
FIELDS: dict[str, tuple[str, ...]] = {
    "bed": ("bed", "size_per_room", "bath_per_bed"),
    "bath": ("bath", "size_per_room", "bath_per_bed"),
    "acre_lot": ("acre_lot", "lot_coverage"),
    "house_size": ("house_size", "size_per_room", "lot_coverage"),
    "prev_sold_date": ("years_since_sale",),
    "zip_code": ("zip_code",),
    "city": ("city",),
    "state": ("state", "city"),
    "status": ("status",),
    "brokered_by": ("brokered_by",),
}
_AT = {name: at for at, name in enumerate(PLAIN)}
BASELINE = "hedonic"  # the trees learn what of the logarithm of the price this feature leaves

FINGERPRINT = hashlib.sha256(
    json.dumps([DEFINITION, {name: str(kind) for name, kind in RAW_SCHEMA.items()}, TARGET, FEATURES]).encode()
).hexdigest()[:16]

# Ages count back from here, not from today, so that the same listing always has the same features.
_REFERENCE_DAY = date(2023, 1, 1)
_DAYS_PER_YEAR = 365.25
# More than this, or less than nothing, is a typing error or a placeholder: unknown. 100,000 acres is a placeholder.
_MOST = {"bed": 50.0, "bath": 50.0, "acre_lot": 99_999.0, "house_size": 100_000.0, "zip_code": 99_999.0}
_SQUARE_FEET_PER_ACRE = 43_560.0
_SLICE = 50_000  # rows that are Python's objects at a time: those take much memory
# In the regression, an unknown value is a typical one; the trees see that it is unknown.
_TYPICAL = {"bed": 3.0, "bath": 2.0, "acre_lot": 0.25, "house_size": 1_700.0, "years_since_sale": 10.0}
# More than this, or less, counts as much there.
_COUNTS = {
    "bed": (0.0, 12.0),
    "bath": (0.0, 12.0),
    "acre_lot": (0.0, 1_000.0),
    "house_size": (100.0, math.inf),
    "years_since_sale": (0.0, 60.0),
}
_TYPICAL_PRICE = 250_000.0  # near the middle, so that sums of squares keep their digits


def parse_listings(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Listings as a frame of `RAW_SCHEMA`, whatever their spelling.

    Integers for floats, zero-padded text for zip codes, other orders of fields, missing and unknown fields are all
    taken; a value that cannot be of its column's type becomes null (the predictor and validation look at it before).
    """
    return pl.DataFrame([_column(name, kind, [row.get(name) for row in records]) for name, kind in RAW_SCHEMA.items()])


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of listings in `RAW_SCHEMA`: as `parse_listings`, for rows that are in columns already."""
    return frame.with_columns(
        (_cast(frame[name], kind) if name in frame.columns else pl.lit(None, kind)).alias(name)
        for name, kind in RAW_SCHEMA.items()
    ).select(RAW_SCHEMA.keys())


def _column(name: str, kind: pl.DataType, values: list[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=kind, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        text = pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
        return text.to_frame().select(_cast(text, kind)).to_series()


def _cast(column: pl.Series, kind: pl.DataType) -> pl.Expr:
    """A column in its type: padding of numbers in text is no matter, text stays as it is."""
    found = pl.col(column.name)
    if column.dtype == pl.String and kind != pl.String():
        found = found.str.strip_chars()
    return found.cast(kind, strict=False)


@dataclass(frozen=True)
class Columns:
    """Listings as numbers, as far as nothing learned is needed; costs what its own rows cost."""

    plain: np.ndarray  # float32, (rows, len(PLAIN)); NaN where nothing is known
    keys: Mapping[str, Sequence[Key] | Mapping[Key, int]]  # the categories, by column, in order: sorted, if not learned
    codes: Mapping[str, np.ndarray]  # int32, (rows,), by column: positions in keys; len(keys) where nothing is known

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

    def take(self, rows: np.ndarray) -> Columns:
        """Some of the rows."""
        return Columns(self.plain[rows], self.keys, {name: codes[rows] for name, codes in self.codes.items()})

    def learned(self, encodings: Encodings) -> Columns:
        """The same listings, their categories looked up once for many a `matrix` by these encodings."""
        index = {name: table.index for name, table in encodings.tables.items()}
        return Columns(self.plain, index, _places(self, encodings))

    @staticmethod
    def together(parts: Sequence[Columns]) -> Columns:
        """The listings of all parts, which are `learned` by the same encodings."""
        codes = {name: np.concatenate([part.codes[name] for part in parts]) for name in COLUMNS}
        return Columns(np.concatenate([part.plain for part in parts]), parts[0].keys, codes)

    def without(self, unknown: Mapping[str, np.ndarray | bool]) -> Columns:
        """The same listings, had they been without some of `FIELDS`: by field, of which rows, (rows,), or of all."""
        plain, codes = self.plain.copy(), dict(self.codes)
        for field, rows in unknown.items():
            for name in FIELDS[field]:
                if name in _AT:
                    plain[:, _AT[name]][rows] = np.nan
                if name in codes:
                    codes[name] = np.where(rows, len(self.keys[name]), codes[name])
        return Columns(plain, self.keys, codes)


def _categories(raw: pl.DataFrame) -> dict[str, Sequence[Key | None]]:
    """The category of each row, by column; a city's name counts within its state."""
    found: dict[str, Sequence[Key | None]] = {name: raw[name].to_list() for name in COLUMNS}
    return found | {"city": list(map(_city, found["city"], found["state"]))}


def _city(city: Key | None, state: Key | None) -> Key | None:
    return None if city is None else f"{city}, {state or ''}"


def _coded(values: Sequence[Key | None], index: dict[Key, int]) -> np.ndarray:
    """Places in `index`, which grows; -1 of no category."""
    codes = [-1 if key is None or key != key else index.setdefault(key, len(index)) for key in values]
    return np.array(codes, dtype=np.int32)


def _plain(raw: pl.DataFrame) -> np.ndarray:
    given = [raw[name].to_numpy().astype(np.float64) for name in _MOST]
    years = np.array([_years_since(day) for day in raw["prev_sold_date"].to_list()], dtype=np.float64)
    with np.errstate(invalid="ignore"):  # NaN is neither more nor less
        return np.stack(_plain_of(given, years, np.where), axis=1).astype(np.float32)


def _plain_of(given: Sequence[Any], years: Any, where: Where) -> tuple[Any, ...]:
    """The features `PLAIN`, of the fields in `_MOST` and of the years since the last sale."""
    bed, bath, acre_lot, house_size, zip_code = (
        where((value >= 0) & (value <= most), value, math.nan)
        for value, most in zip(given, _MOST.values(), strict=True)
    )
    per_room = house_size / (bed + bath + 1)
    bath_per_bed = bath / where(bed >= 1, bed, math.nan)
    coverage = (house_size + 1) / (acre_lot * _SQUARE_FEET_PER_ACRE + 1)
    return bed, bath, acre_lot, house_size, per_room, bath_per_bed, coverage, years, zip_code


@lru_cache(maxsize=50_000)  # of different days there are few, and this is the slowest part of a listing
def _years_since(day: str | None) -> float:
    """Years from an ISO date, with or without a time, to the reference day; NaN for anything else."""
    try:
        year, month, day_of_month = (day or "")[:10].split("-")
        sold = date(int(year), int(month), int(day_of_month))
    except ValueError:
        return math.nan
    return (_REFERENCE_DAY - sold).days / _DAYS_PER_YEAR


def _hedonic(of: Callable[[str], Any], where: Where) -> tuple[Any, ...]:
    """The x of the regression, float64, near zero for a typical house; `of` gives features of `PLAIN`, float64 too."""

    def known(name: str) -> Any:
        value, (least, most) = of(name), _COUNTS[name]
        value = where(value != value, _TYPICAL[name], value)
        return where(value < least, least, where(value > most, most, value))

    return (
        np.log(known("house_size") / _TYPICAL["house_size"]),
        np.log((known("acre_lot") + 0.1) / (_TYPICAL["acre_lot"] + 0.1)),
        np.log((known("bed") + 1) / (_TYPICAL["bed"] + 1)),
        np.log((known("bath") + 1) / (_TYPICAL["bath"] + 1)),
        (known("years_since_sale") - _TYPICAL["years_since_sale"]) / 10,
    )


def _hedonic_of_columns(plain: np.ndarray) -> tuple[np.ndarray, ...]:
    return _hedonic(lambda name: plain[:, _AT[name]].astype(np.float64), np.where)


def build_features(raw: pl.DataFrame, encodings: Encodings) -> np.ndarray:
    """Feature matrix of raw listings: `matrix` of their `Columns`."""
    return matrix(Columns.of(raw), encodings)


def matrix(columns: Columns, encodings: Encodings) -> np.ndarray:
    """Feature matrix.

    Args:
        columns: of listings that `encodings` were not learned from.
        encodings: learned by `fit_encodings`.

    Returns:
        float32, (rows, len(FEATURES)), columns in the order of `FEATURES`; NaN where nothing is known. A category
        that was never seen has the premium of what it lies in, and no rows. A city or a state that is not known is
        the one that most rows of the zip code, or of the city, were in.
    """
    return _matrix(columns.plain, _places(columns, encodings), encodings)


def _places(columns: Columns, encodings: Encodings) -> dict[str, np.ndarray]:
    """Positions of each row's categories in the learned tables, (rows,), by column."""
    found = {name: positions(columns.keys[name], encodings.tables[name].index) for name in COLUMNS}
    return {name: place.astype(np.int32)[columns.codes[name]] for name, place in found.items()}


def _matrix(plain: np.ndarray, told: Mapping[str, np.ndarray], encodings: Encodings) -> np.ndarray:
    place = dict(told)
    for narrow, wide in LIES_IN.items():  # a place that is not known is the one that the narrower one lies in
        nowhere = len(encodings.tables[wide].index)
        place[wide] = np.where(place[wide] < nowhere, place[wide], encodings.within[narrow][place[narrow]])
    effect, rows = {}, {}
    for name, table in encodings.tables.items():
        effect[name], rows[name] = table.effect[place[name]], table.rows[place[name]]
    learned = _learned(effect, rows, place["status"], _hedonic_of_columns(plain), encodings, np.where)
    out = np.empty((len(plain), len(FEATURES)), dtype=np.float32)
    out[:, : len(PLAIN)] = plain
    for at, values in enumerate(learned, start=len(PLAIN)):
        out[:, at] = values
    return out


def build_row(listing: Mapping[str, Any], encodings: Encodings) -> array[float]:
    """Features of one listing: to the last bit the row that `build_features` gives it, at a fraction of the cost.

    Args:
        listing: values of the types in `RAW_SCHEMA`, or None; fields may be missing.
        encodings: as for `build_features`.

    Returns:
        float32 (typecode "f"), in the order of `FEATURES`.
    """
    of = listing.get
    given = [math.nan if (value := of(name)) is None else value for name in _MOST]
    row = array("f", _plain_of(given, _years_since(of("prev_sold_date")), either))
    effect, rows, place = {}, {}, {}
    for name in COLUMNS:
        key: Any = _city(of(name), of("state")) if name == "city" else of(name)
        place[name] = encodings.tables[name].index.get(key, -1)  # the last place is that of what was never seen
    for narrow, wide in LIES_IN.items():
        if place[wide] < 0:
            place[wide] = encodings.within[narrow].item(place[narrow])
    for name, table in encodings.tables.items():
        effect[name], rows[name] = table.effect.item(place[name]), table.rows.item(place[name])
    x = _hedonic(lambda name: row[_AT[name]], either)
    row.extend(_learned(effect, rows, place["status"], x, encodings, either))
    return row


def either(condition: Any, then: Any, otherwise: Any) -> Any:
    """`np.where` of one value."""
    return then if condition else otherwise


def _learned(
    effect: Mapping[str, Any],
    rows: Mapping[str, Any],
    status: Any,
    x: Sequence[Any],
    encodings: Encodings,
    where: Where,
) -> tuple[Any, ...]:
    """The features behind `PLAIN`, of what the tables hold of each column, and of the x of the regression."""
    city = effect["state"] + effect["city"]
    zip_code = city + effect["zip_code"]
    hedonic = encodings.intercept + effect["status"] + zip_code
    # one after the other: a product of matrices would round differently for one row than for many
    for values, coefficient in zip(x, encodings.coefficients.tolist(), strict=True):
        hedonic = hedonic + values * coefficient
    return (
        where(rows["status"] > 0, status, math.nan),
        effect["state"],
        city,
        zip_code,
        rows["city"],
        rows["zip_code"],
        effect[BROKER],
        rows[BROKER],
        hedonic + math.log(_TYPICAL_PRICE),
    )


def typical_baseline(encodings: Encodings) -> float:
    """The baseline of a typical house in an average place."""
    return encodings.intercept + math.log(_TYPICAL_PRICE)


def folds(raw: pl.DataFrame) -> np.ndarray:
    """The fold of each listing, uint8 (rows,): a pure function of the listing, and the same when its price changes."""
    mixed = np.zeros(raw.height, dtype=np.uint64)
    for name in ("street", "zip_code", *NUMERIC):
        bits = (raw[name].fill_null(-1.0).to_numpy() + 0.0).view(np.uint64)
        mixed = _mix(mixed ^ bits)
    return (mixed % np.uint64(FOLDS)).astype(np.uint8)


def draws(columns: Columns, seed: int) -> Iterator[np.ndarray]:
    """Numbers from 0 to 1, float64 (rows,), without end: each a pure function of the listing and the seed."""
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


def sums(columns: Columns, price: np.ndarray, fold: np.ndarray) -> Sums:
    """What the encodings need to know of training rows, their prices in dollars, and their folds."""
    x = _hedonic_of_columns(columns.plain)
    z = np.stack([np.ones(len(price)), *x, np.log(price / _TYPICAL_PRICE)], axis=1)
    return Sums.of({name: list(keys) for name, keys in columns.keys.items()}, columns.codes, z, fold)


def fit_encodings(train: pl.DataFrame) -> Encodings:
    """The encodings to serve with, learned from all training rows."""
    return fit(sums(Columns.of(train), train[TARGET].to_numpy(), folds(train)))


def training_features(train: pl.DataFrame) -> tuple[np.ndarray, Encodings]:
    """Feature matrix of training rows, and the encodings to serve with."""
    columns, fold = Columns.of(train), folds(train)
    known = sums(columns, train[TARGET].to_numpy(), fold)
    out = np.empty((train.height, len(FEATURES)), dtype=np.float32)
    fill(out, columns, fold, fit_folds(known))
    return out, fit(known)


def fit_folds(known: Sums) -> list[Encodings]:
    """For each fold, what the other folds teach."""
    return [fit(known, without=fold) for fold in range(FOLDS)]


def fill(out: np.ndarray, columns: Columns, fold: np.ndarray, learned: Sequence[Encodings]) -> None:
    """Write the feature matrix of training rows, (rows, len(FEATURES)), into `out`.

    A row's own price must not reach its features: each fold is encoded with what the other folds taught (`fit_folds`).
    """
    place = _places(columns, learned[0])  # the folds differ in what is known of a category, not in which there are
    for held_out, encodings in enumerate(learned):
        inside = np.flatnonzero(fold == held_out)
        some = {name: places[inside] for name, places in place.items()}
        out[inside] = _matrix(columns.plain[inside], some, encodings)
