"""Shapes of the batches, and random values that do not depend on the price, for both kinds of batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.random import Generator

STATES = (
    "California", "Texas", "Florida", "New York", "Pennsylvania", "Illinois", "Ohio", "Georgia", "North Carolina",
    "Michigan", "New Jersey", "Virginia", "Washington", "Arizona", "Massachusetts", "Tennessee", "Indiana", "Maryland",
    "Missouri", "Wisconsin", "Colorado", "Minnesota", "South Carolina", "Alabama", "Louisiana", "Kentucky", "Oregon",
    "Oklahoma", "Connecticut", "Utah", "Iowa", "Nevada", "Arkansas", "Mississippi", "Kansas", "New Mexico", "Nebraska",
    "Idaho", "West Virginia", "Hawaii", "New Hampshire", "Maine", "Montana", "Rhode Island", "Delaware",
    "South Dakota", "North Dakota", "Alaska", "Vermont", "Wyoming", "District of Columbia", "Puerto Rico",
    "Virgin Islands",
)  # fmt: skip
COLUMNS = (
    "brokered_by", "status", "price", "bed", "bath", "acre_lot", "street", "city", "state", "zip_code", "house_size",
    "prev_sold_date",
)  # fmt: skip
CITIES_PER_STATE = 24
ZIPS_PER_CITY = 4
BROKERS = 5_000
FIRST_DATE = date(1990, 1, 1)
LAST_DATE = date(2022, 12, 31)


@dataclass(frozen=True)
class Shape:
    """Size and value ranges of one batch of the real service."""

    number: int
    rows: int
    statuses: tuple[str, ...]
    states: tuple[str, ...]
    price: tuple[float, float]
    house_size: tuple[float, float]
    dirty_prices: int  # rows with a price far below any real price


SHAPES = (
    Shape(0, 73_784, ("for_sale",), STATES[:50], (10_000, 300_000), (1_500, 1_560_780), 40),
    Shape(1, 94_551, ("for_sale",), STATES[:51], (10_000, 300_000), (100, 1_499), 42),
    Shape(2, 230_366, ("sold",), STATES[:50], (10_000, 300_000), (100, 217_364), 30),
    Shape(3, 4_055, ("for_sale", "sold"), ("Massachusetts",), (10_000, 300_000), (190, 15_096), 0),
    Shape(4, 320_696, ("for_sale", "sold"), STATES, (300_023, 500_000), (100, 54_892), 0),
    Shape(5, 361_457, ("for_sale", "sold"), STATES, (500_007, 20_000_000), (100, 100_000), 0),
)


@dataclass(frozen=True)
class Places:
    """Indices of state, city (within all cities) and zip code (within all zip codes), one per row."""

    state: np.ndarray
    city: np.ndarray
    zip_code: np.ndarray


def draw_places(rng: Generator, rows: int, states: tuple[str, ...]) -> Places:
    """Draw places. Populous states and large cities are more frequent."""
    weight = 1.0 / (1.0 + np.arange(len(STATES)) / 8.0)
    allowed = np.array([STATES.index(name) for name in states])
    state = rng.choice(allowed, rows, p=weight[allowed] / weight[allowed].sum())
    town = np.minimum(rng.geometric(0.15, rows) - 1, CITIES_PER_STATE - 1)
    city = state * CITIES_PER_STATE + town
    zip_code = city * ZIPS_PER_CITY + rng.integers(0, ZIPS_PER_CITY, rows)
    return Places(state, city, zip_code)


def place_columns(places: Places) -> dict[str, pl.Series]:
    """The columns `city`, `state` and `zip_code`; the zip code is a float, as in the real service."""
    zips = 501.0 + places.zip_code * 19.0
    return {
        "city": pl.Series(CITY_NAMES)[places.city],
        "state": pl.Series(STATES)[places.state],
        "zip_code": pl.Series(zips, dtype=pl.Float64),
    }


def draw_sale_days(rng: Generator, rows: int) -> np.ndarray:
    """Draw the days from FIRST_DATE to the previous sale. Recent sales are more frequent."""
    span = (LAST_DATE - FIRST_DATE).days
    return (span * np.sqrt(rng.random(rows))).astype(np.int64)


def dates(days: np.ndarray) -> pl.Series:
    """ISO dates, as text, of numbers of days after FIRST_DATE."""
    offset = (FIRST_DATE - date(1970, 1, 1)) // timedelta(days=1)
    return pl.Series((days + offset).astype(np.int32)).cast(pl.Date).dt.to_string("%Y-%m-%d")


def _city_names() -> Iterator[str]:
    rng = np.random.default_rng(1)
    heads = ("Ash", "Bel", "Clay", "Dun", "East", "Fair", "Glen", "Hart", "Iron", "Kings", "Lake", "Mill", "North",
             "Oak", "Pine", "Red", "Spring", "Stone", "West", "Wood")  # fmt: skip
    tails = ("bridge", "bury", "dale", "field", "ford", "ham", "haven", "land", "mont", "port", "side", "ton", "view",
             "ville", "wick")  # fmt: skip
    for state in STATES:
        pairs = rng.permutation(len(heads) * len(tails))[:CITIES_PER_STATE]
        names = [heads[pair // len(tails)] + tails[pair % len(tails)] for pair in pairs]
        if state == "Massachusetts":
            names[0] = "Agawam"
        yield from names


CITY_NAMES = tuple(_city_names())
