"""The one definition of features, for training and for serving.

Raw listings have the twelve fields of the data API (`RAW_SCHEMA`). `build_features` turns them into the matrix that
the model sees; what it needs to have learned (`Encodings`) travels in the model bundle. Raise `DEFINITION` with every
change that alters a matrix: the fingerprint changes with it, and no model meets features it was not trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

DEFINITION = 1

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
ENCODED = ("state", "city", "zip_code", "brokered_by", "status")
FEATURES = (
    *NUMERIC,
    "size_per_bed",
    "bath_per_bed",
    "years_since_sale",
    *(f"{name}_value" for name in ENCODED),
)

FINGERPRINT = hashlib.sha256(
    json.dumps([DEFINITION, {name: str(kind) for name, kind in RAW_SCHEMA.items()}, TARGET, FEATURES]).encode()
).hexdigest()[:16]

# Ages count back from here, not from today, so that the same listing always has the same features.
_REFERENCE_DAY = date(2023, 1, 1)
_DAYS_PER_YEAR = 365.25
# Weight of the overall mean in a category's value, in rows: a category seen this often is half itself.
_PRIOR_ROWS = {"state": 20.0, "city": 15.0, "zip_code": 10.0, "brokered_by": 25.0, "status": 20.0}
_FOLDS = 5

Key = str | float
Encodings = dict[str, dict[Key, float]]


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


def build_features(raw: pl.DataFrame, encodings: Encodings) -> np.ndarray:
    """Feature matrix of raw listings.

    Args:
        raw: columns of `RAW_SCHEMA`; the target may be missing.
        encodings: learned by `fit_encodings`.

    Returns:
        float64, (rows, len(FEATURES)), columns in the order of `FEATURES`; NaN where nothing is known.
    """
    encoded = [_looked_up(keys, encodings[name]) for name, keys in _keys(raw).items()]
    return np.column_stack([*_plain(raw), *encoded])


def fit_encodings(train: pl.DataFrame) -> Encodings:
    """Value of each category: the mean log price of its rows, drawn towards the overall mean where they are few."""
    target = np.log(train[TARGET].to_numpy())
    return {name: _means(keys, target, _PRIOR_ROWS[name]) for name, keys in _keys(train).items()}


def training_features(train: pl.DataFrame, seed: int) -> tuple[np.ndarray, Encodings]:
    """Feature matrix of training rows, and the encodings to serve with.

    A row's own price must not reach its features: each fold is encoded with what the other folds taught.
    """
    target = np.log(train[TARGET].to_numpy())
    fold = np.random.default_rng(seed).integers(0, _FOLDS, train.height)
    encoded = []
    for name, keys in _keys(train).items():
        column = np.full(train.height, np.nan)
        for held_out in range(_FOLDS):
            inside = np.flatnonzero(fold == held_out)
            rest = np.flatnonzero(fold != held_out)
            learned = _means([keys[i] for i in rest], target[rest], _PRIOR_ROWS[name])
            column[inside] = _looked_up([keys[i] for i in inside], learned)
        encoded.append(column)
    return np.column_stack([*_plain(train), *encoded]), fit_encodings(train)


def _plain(raw: pl.DataFrame) -> list[np.ndarray]:
    """The features that need nothing learned, in the order of `FEATURES`."""
    bed, bath, acre_lot, house_size = (raw[name].to_numpy().astype(np.float64) for name in NUMERIC)
    day = raw["prev_sold_date"].str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    age = ((pl.Series([_REFERENCE_DAY]) - day).dt.total_days() / _DAYS_PER_YEAR).to_numpy().astype(np.float64)
    # NaN and infinity are answers here: a tree sends an infinite ratio where it sends the largest one
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size_per_bed = np.where(bed > 0, house_size / bed, np.nan)
        bath_per_bed = np.where(bed > 0, bath / bed, np.nan)
    return [bed, bath, acre_lot, house_size, size_per_bed, bath_per_bed, age]


def _keys(raw: pl.DataFrame) -> dict[str, list[Key | None]]:
    """The category of each row, per encoded column; a city's name counts within its state."""
    state, city = raw["state"].to_list(), raw["city"].to_list()
    return {
        "state": state,
        "city": [None if c is None else f"{c}, {s or ''}" for c, s in zip(city, state, strict=True)],
        "zip_code": raw["zip_code"].to_list(),
        "brokered_by": raw["brokered_by"].to_list(),
        "status": raw["status"].to_list(),
    }


def _looked_up(keys: Iterable[Key | None], learned: Mapping[Key, float]) -> np.ndarray:
    return np.array([math.nan if key is None else learned.get(key, math.nan) for key in keys], dtype=np.float64)


def _means(keys: Sequence[Key | None], target: np.ndarray, prior_rows: float) -> dict[Key, float]:
    overall = float(target.mean()) if len(target) else 0.0
    frame = pl.DataFrame([pl.Series("key", keys, strict=False), pl.Series("target", target)]).drop_nulls()
    grouped = frame.group_by("key", maintain_order=True).agg(
        pl.col("target").sum().alias("sum"), pl.len().alias("rows")
    )
    value = (grouped["sum"] + prior_rows * overall) / (grouped["rows"] + prior_rows)
    return dict(zip(grouped["key"].to_list(), value.to_list(), strict=True))
