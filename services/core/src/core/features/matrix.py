"""The feature matrix: `build_features` for many listings, `build_row` for one, with bit-identical results."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from core.features.columns import FEATURES, PLAIN, PLAIN_POSITION
from core.features.encodings import COLUMNS, LIES_IN, Encodings
from core.features.formulas import UPPER_LIMIT, either, encoded_features, hedonic_inputs, plain_features, years_since
from core.features.unencoded import Columns, city_key


def build_features(raw: pl.DataFrame, encodings: Encodings) -> np.ndarray:
    """Feature matrix of raw listings: `matrix` of their `Columns`."""
    return matrix(Columns.of(raw), encodings)


def matrix(columns: Columns, encodings: Encodings) -> np.ndarray:
    """Feature matrix of listings that the encodings were not fitted on.

    Args:
        columns: the listings.
        encodings: from `training.fit_encodings`.

    Returns:
        float32, (rows, len(FEATURES)), columns in the order of `FEATURES`; NaN where unknown. A category that is not
        in the encodings gets the premium of the place around it, and zero rows. An unknown city or state is replaced
        by the one in which most rows of the zip code, or of the city, were.
    """
    return matrix_at(columns.plain, columns.positions_in(encodings), encodings)


def matrix_at(plain: np.ndarray, categories: Mapping[str, np.ndarray], encodings: Encodings) -> np.ndarray:
    """`matrix` of listings whose categories were looked up before.

    Args:
        plain: as `Columns.plain`.
        categories: from `Columns.positions_in`.
        encodings: the same that `categories` was looked up in.
    """
    place = dict(categories)
    for narrow, wide in LIES_IN.items():  # an unknown place is replaced by the one around the narrower place
        unknown = len(encodings.tables[wide].index)
        place[wide] = np.where(place[wide] < unknown, place[wide], encodings.within[narrow][place[narrow]])
    effect, rows = {}, {}
    for name, table in encodings.tables.items():
        effect[name], rows[name] = table.effect[place[name]], table.rows[place[name]]
    x = hedonic_inputs_of_columns(plain)
    encoded = encoded_features(effect, rows, place["status"], x, encodings, np.where)
    out = np.empty((len(plain), len(FEATURES)), dtype=np.float32)
    out[:, : len(PLAIN)] = plain
    for position, values in enumerate(encoded, start=len(PLAIN)):
        out[:, position] = values
    return out


def hedonic_inputs_of_columns(plain: np.ndarray) -> tuple[np.ndarray, ...]:
    """`hedonic_inputs` of `Columns.plain`; each is float64, (rows,)."""
    return hedonic_inputs(lambda name: plain[:, PLAIN_POSITION[name]].astype(np.float64), np.where)


def build_row(listing: Mapping[str, Any], encodings: Encodings) -> array[float]:
    """Features of one listing, bit-identical to its row of `build_features`, at a fraction of the cost.

    Args:
        listing: values of the types in `RAW_SCHEMA`, or None; fields may be missing.
        encodings: as for `build_features`.

    Returns:
        float32 (typecode "f"), in the order of `FEATURES`.
    """
    of = listing.get
    values = [math.nan if (value := of(name)) is None else value for name in UPPER_LIMIT]
    row = array("f", plain_features(values, years_since(of("prev_sold_date")), either))
    effect, rows, place = {}, {}, {}
    for name in COLUMNS:
        key: Any = city_key(of(name), of("state")) if name == "city" else of(name)
        place[name] = encodings.tables[name].index.get(key, -1)  # the last entry is for unknown categories
    for narrow, wide in LIES_IN.items():
        if place[wide] < 0:
            place[wide] = encodings.within[narrow].item(place[narrow])
    for name, table in encodings.tables.items():
        effect[name], rows[name] = table.effect.item(place[name]), table.rows.item(place[name])
    x = hedonic_inputs(lambda name: row[PLAIN_POSITION[name]], either)
    row.extend(encoded_features(effect, rows, place["status"], x, encodings, either))
    return row
