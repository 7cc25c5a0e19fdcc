"""The one definition of features, for training and for serving.

Raw listings have the twelve fields of the data API (`RAW_SCHEMA`). `build_features` turns them into the matrix that
the model sees; what it needs to have learned (`core.encodings`) travels in the model bundle. Raise `DEFINITION` with
every change that alters a matrix: the fingerprint changes with it, and no model meets features it was not trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from core.encodings import BROKER, COLUMNS, FOLDS, Encodings, Key, Sums, fit, in_order, positions

DEFINITION = 3

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
_MADE_OF = {"house_size": ("house_size", "size_per_room", "lot_coverage"), "zip_code": ("zip_code",)}  # of PLAIN
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
    keys: Mapping[str, Sequence[Key]]  # the categories that occur, by column, sorted
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

    def without(self, unknown: Collection[str]) -> Columns:
        """The same listings, had they been without these fields: of those of `COLUMNS`, and the living area."""
        plain, codes = self.plain.copy(), dict(self.codes)
        for name in unknown:
            plain[:, [PLAIN.index(made) for made in _MADE_OF.get(name, ())]] = np.nan
            if name in codes:
                codes[name] = np.full_like(codes[name], len(self.keys[name]))
        return Columns(plain, self.keys, codes)


def _categories(raw: pl.DataFrame) -> dict[str, Sequence[Key | None]]:
    """The category of each row, by column; a city's name counts within its state."""
    found: dict[str, Sequence[Key | None]] = {name: raw[name].to_list() for name in COLUMNS}
    pairs = zip(found["city"], found["state"], strict=True)
    return found | {"city": [None if city is None else f"{city}, {state or ''}" for city, state in pairs]}


def _coded(values: Sequence[Key | None], index: dict[Key, int]) -> np.ndarray:
    """Places in `index`, which grows; -1 of no category."""
    codes = [-1 if key is None or key != key else index.setdefault(key, len(index)) for key in values]
    return np.array(codes, dtype=np.int32)


def _plain(raw: pl.DataFrame) -> np.ndarray:
    known = {name: raw[name].to_numpy().astype(np.float64) for name in (*NUMERIC, "zip_code")}
    for name, values in known.items():
        with np.errstate(invalid="ignore"):  # NaN is neither
            known[name] = np.where((values >= 0) & (values <= _MOST[name]), values, np.nan)
    bed, bath, acre_lot, house_size, zip_code = known.values()
    years = np.array([_years_since(day) for day in raw["prev_sold_date"].to_list()], dtype=np.float64)
    per_room = house_size / (bed + bath + 1)
    bath_per_bed = bath / np.where(bed >= 1, bed, np.nan)
    coverage = (house_size + 1) / (acre_lot * _SQUARE_FEET_PER_ACRE + 1)
    columns = (bed, bath, acre_lot, house_size, per_room, bath_per_bed, coverage, years, zip_code)
    return np.stack(columns, axis=1).astype(np.float32)


@lru_cache(maxsize=50_000)  # of different days there are few, and this is the slowest part of a listing
def _years_since(day: str | None) -> float:
    """Years from an ISO date, with or without a time, to the reference day; NaN for anything else."""
    try:
        year, month, day_of_month = (day or "")[:10].split("-")
        sold = date(int(year), int(month), int(day_of_month))
    except ValueError:
        return math.nan
    return (_REFERENCE_DAY - sold).days / _DAYS_PER_YEAR


def _hedonic(plain: np.ndarray) -> list[np.ndarray]:
    """The x of the regression, float64, (rows,) each, near zero for a typical house."""

    def known(name: str) -> np.ndarray:
        values = plain[:, PLAIN.index(name)].astype(np.float64)
        return np.where(np.isnan(values), _TYPICAL[name], values)

    return [
        np.log(np.maximum(known("house_size"), 100) / _TYPICAL["house_size"]),
        np.log((np.minimum(known("acre_lot"), 1000) + 0.1) / (_TYPICAL["acre_lot"] + 0.1)),
        np.log((np.minimum(known("bed"), 12) + 1) / (_TYPICAL["bed"] + 1)),
        np.log((np.minimum(known("bath"), 12) + 1) / (_TYPICAL["bath"] + 1)),
        (np.clip(known("years_since_sale"), 0, 60) - _TYPICAL["years_since_sale"]) / 10,
    ]


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
        that was never seen has the premium of what it lies in, and no rows.
    """
    return _matrix(columns.plain, _places(columns, encodings), encodings)


def _places(columns: Columns, encodings: Encodings) -> dict[str, np.ndarray]:
    """Positions of each row's categories in the learned tables, (rows,), by column."""
    tables = encodings.tables
    return {name: positions(columns.keys[name], tables[name].index)[columns.codes[name]] for name in COLUMNS}


def _matrix(plain: np.ndarray, place: Mapping[str, np.ndarray], encodings: Encodings) -> np.ndarray:
    effect, rows = {}, {}
    for name, table in encodings.tables.items():
        effect[name], rows[name] = table.effect[place[name]], table.rows[place[name]]
    status = np.where(rows["status"] > 0, place["status"], np.nan)
    city = effect["state"] + effect["city"]
    zip_code = city + effect["zip_code"]
    hedonic = encodings.intercept + effect["status"] + zip_code
    # one after the other: a product of matrices would round differently for one row than for many
    for values, coefficient in zip(_hedonic(plain), encodings.coefficients, strict=True):
        hedonic = hedonic + values * coefficient
    learned = (status, effect["state"], city, zip_code, rows["city"], rows["zip_code"], effect[BROKER], rows[BROKER],
               hedonic + math.log(_TYPICAL_PRICE))  # fmt: skip
    out = np.empty((len(plain), len(FEATURES)), dtype=np.float32)
    out[:, : len(PLAIN)] = plain
    for at, values in enumerate(learned, start=len(PLAIN)):
        out[:, at] = values
    return out


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


def _mix(values: np.ndarray) -> np.ndarray:
    """Finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def sums(columns: Columns, price: np.ndarray, fold: np.ndarray) -> Sums:
    """What the encodings need to know of training rows, their prices in dollars, and their folds."""
    x = _hedonic(columns.plain)
    z = np.stack([np.ones(len(price)), *x, np.log(price / _TYPICAL_PRICE)], axis=1)
    return Sums.of(columns.keys, columns.codes, z, fold)


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
