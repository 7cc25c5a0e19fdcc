"""Synthetic listings: deterministic, with a price that is known except for noise of a known size.

The price of a listing is `noise_free * exp(NOISE * z)`. The noise-free price is a product of effects of size, state,
city, zip code, status, age of the previous sale and lot. `z` is a normal variable, truncated at the same distance on
both sides so that the price stays in the price range of the batch; the real batches have distinct price ranges, too. So
the noise-free price is the median of the price given the listing and its batch, and no model can be expected to have a
smaller mean absolute error than `Floor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.random import Generator

from datasource.listings import (
    BROKERS,
    CITIES_PER_STATE,
    COLUMNS,
    SHAPES,
    STATES,
    ZIPS_PER_CITY,
    Places,
    Shape,
    dates,
    draw_places,
    draw_sale_days,
    place_columns,
)

NOISE = 0.18  # standard deviation of the part of the log price that no feature explains
_MARGIN = 0.5 * NOISE  # distance, in logarithms, of the noise-free price from the ends of the price range


@dataclass(frozen=True)
class Floor:
    """Error of the noise-free price on a batch's rows, in dollars: the error of the best possible model.

    The best model for squared errors predicts the mean of the price; its RMSE is smaller by less than 1 %.
    """

    rows: int
    mae: float
    rmse: float


@dataclass(frozen=True)
class _Effects:
    """Logarithmic effects of places, the same for every batch of a seed."""

    state: np.ndarray
    city: np.ndarray
    zip_code: np.ndarray

    @staticmethod
    def of(seed: int) -> _Effects:
        rng = np.random.default_rng([seed, 1000])
        cities = len(STATES) * CITIES_PER_STATE
        return _Effects(
            rng.normal(0, 0.35, len(STATES)), rng.normal(0, 0.25, cities), rng.normal(0, 0.12, cities * ZIPS_PER_CITY)
        )


@dataclass(frozen=True)
class _Candidates:
    places: Places
    house_size: np.ndarray
    acre_lot: np.ndarray
    sold: np.ndarray
    days: np.ndarray
    log_price: np.ndarray  # without noise

    def take(self, index: np.ndarray) -> _Candidates:
        places = Places(self.places.state[index], self.places.city[index], self.places.zip_code[index])
        columns = (self.house_size, self.acre_lot, self.sold, self.days, self.log_price)
        return _Candidates(places, *(column[index] for column in columns))


def _candidates(rng: Generator, rows: int, shape: Shape, effects: _Effects) -> _Candidates:
    places = draw_places(rng, rows, shape.states)
    low, high = shape.house_size
    size = np.clip(np.exp(rng.normal(7.45, 0.55, rows)), low, min(high, 20_000))
    if high < 1_500 or low >= 1_500:  # a batch of small houses only, or of large houses only
        size = np.exp(rng.uniform(np.log(max(low, 500)), np.log(min(high, 6_000)), rows))
    size = np.round(size)
    acre = np.round(np.exp(rng.normal(-1.2, 1.1, rows)), 2)
    sold = np.full(rows, shape.statuses == ("sold",)) | ((len(shape.statuses) > 1) & (rng.random(rows) < 0.5))
    days = draw_sale_days(rng, rows)
    log_price = (
        np.log(330_000)
        + 0.75 * (np.log(size) - 7.45)
        + 0.06 * (np.log(acre + 0.05) + 1.2)
        + effects.state[places.state]
        + effects.city[places.city]
        + effects.zip_code[places.zip_code]
        - 0.08 * sold
        - 0.010 * (32.0 - days / 365.25)  # houses whose last sale is long ago are cheaper
    )
    return _Candidates(places, size, acre, sold, days, log_price)


def generate(number: int, seed: int, scale: float = 1.0) -> tuple[pl.DataFrame, Floor]:
    """Rows of one batch with the columns of the real service, and the smallest possible error on them."""
    shape = SHAPES[number]
    rows = max(1, round(shape.rows * scale))
    rng = np.random.default_rng([seed, number])
    effects = _Effects.of(seed)
    low, high = np.log(shape.price[0]) + _MARGIN, np.log(shape.price[1]) - _MARGIN
    parts: list[_Candidates] = []
    count = 0
    while count < rows:
        drawn = _candidates(rng, max(20_000, rows), shape, effects)
        inside = np.flatnonzero((drawn.log_price > low) & (drawn.log_price < high))[: rows - count]
        parts.append(drawn.take(inside))
        count += len(inside)
    frame = pl.concat([_columns(rng, part) for part in parts])
    noise_free = np.exp(np.concatenate([part.log_price for part in parts]))
    price = _with_noise(rng, noise_free, shape)
    floor = Floor(rows, float(np.abs(price - noise_free).mean()), float(np.sqrt(((price - noise_free) ** 2).mean())))
    dirty = rng.choice(rows, round(shape.dirty_prices * scale), replace=False)
    price[dirty] = np.where(rng.random(len(dirty)) < 0.4, 1.0, np.round(rng.uniform(1, 999, len(dirty))))
    return _with_dirt(rng, frame.with_columns(price=pl.Series(price)), scale).select(COLUMNS), floor


def _with_noise(rng: Generator, noise_free: np.ndarray, shape: Shape) -> np.ndarray:
    low, high = shape.price
    furthest = np.minimum(np.log(high / noise_free), np.log(noise_free / low)).clip(max=3 * NOISE)
    shift = NOISE * rng.normal(size=len(noise_free))
    while len(beyond := np.flatnonzero(np.abs(shift) > furthest)):
        shift[beyond] = NOISE * rng.normal(size=len(beyond))
    price: np.ndarray = np.clip(np.round(noise_free * np.exp(shift)), low, high)
    return price


def _columns(rng: Generator, part: _Candidates) -> pl.DataFrame:
    rows = len(part.house_size)
    bed = np.clip(np.round(part.house_size / 650 + rng.normal(0, 0.8, rows)), 1, 12)
    bath = np.clip(np.round(part.house_size / 900 + rng.normal(0, 0.6, rows)), 1, 10)
    return pl.DataFrame(
        {
            "brokered_by": rng.integers(1, BROKERS, rows).astype(np.float64),
            "status": np.where(part.sold, "sold", "for_sale"),
            "bed": bed,
            "bath": bath,
            "acre_lot": part.acre_lot,
            "street": rng.integers(1, 2_000_000, rows).astype(np.float64),
            **place_columns(part.places),
            "house_size": part.house_size,
            "prev_sold_date": dates(part.days),
        }
    )


def _with_dirt(rng: Generator, frame: pl.DataFrame, scale: float) -> pl.DataFrame:
    """Add errors as in the real rows: absurd numbers of rooms, lots of 0 or 100,000 acres, one absurd house size."""
    values = {name: frame[name].to_numpy().copy() for name in ("bed", "bath", "acre_lot", "house_size")}
    share = max(1, round(10 * scale))

    def some(count: int) -> np.ndarray:
        return rng.choice(frame.height, min(count, frame.height), replace=False)

    values["bed"][some(share)] = rng.integers(40, 445)
    values["bath"][some(share)] = rng.integers(40, 223)
    values["acre_lot"][some(share)] = 100_000.0
    values["acre_lot"][some(20 * share)] = 0.0
    values["house_size"][some(1)] = 1_560_780.0 if frame["house_size"].max() > 1_500 else 1_499.0  # type: ignore[operator]
    return frame.with_columns(**{name: pl.Series(column) for name, column in values.items()})
