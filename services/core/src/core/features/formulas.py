"""The formulas of the features.

Each formula is written once, for columns (arrays) and for a single listing (floats). It uses operators, `np.log` and a
`Where`: `np.where` for columns, `either` for a single listing. Serving does not build a frame for one listing, because
a frame of one row costs thirty times as much as these formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from core.features.encodings import BROKER, Encodings

Where = Callable[[Any, Any, Any], Any]  # (condition, value if true, value if false)

# Ages count back from this day, not from today, so that the same listing always has the same features.
_REFERENCE_DAY = date(2023, 1, 1)
_DAYS_PER_YEAR = 365.25
_SQUARE_FEET_PER_ACRE = 43_560.0
# A value above this limit, or below zero, is a typing error or a placeholder and counts as unknown. For example,
# 100,000 acres is a placeholder.
UPPER_LIMIT = {"bed": 50.0, "bath": 50.0, "acre_lot": 99_999.0, "house_size": 100_000.0, "zip_code": 99_999.0}
# The regression replaces an unknown value by a typical one; the trees see that it is unknown.
_TYPICAL = {"bed": 3.0, "bath": 2.0, "acre_lot": 0.25, "house_size": 1_700.0, "years_since_sale": 10.0}
# The regression clips values to these bounds.
_BOUNDS = {
    "bed": (0.0, 12.0),
    "bath": (0.0, 12.0),
    "acre_lot": (0.0, 1_000.0),
    "house_size": (100.0, math.inf),
    "years_since_sale": (0.0, 60.0),
}
TYPICAL_PRICE = 250_000.0  # near the middle of all prices, so that sums of squares keep their digits


def either(condition: Any, then: Any, otherwise: Any) -> Any:
    """`np.where` for a single value."""
    return then if condition else otherwise


@lru_cache(maxsize=50_000)  # there are few different days, and this is the slowest part of a listing
def years_since(day: str | None) -> float:
    """Years from an ISO date, with or without a time, to the reference day; NaN for anything else."""
    try:
        year, month, day_of_month = (day or "")[:10].split("-")
        sold = date(int(year), int(month), int(day_of_month))
    except ValueError:
        return math.nan
    return (_REFERENCE_DAY - sold).days / _DAYS_PER_YEAR


def plain_features(values: Sequence[Any], years: Any, where: Where) -> tuple[Any, ...]:
    """The features in `PLAIN`, in that order.

    Args:
        values: the fields of `UPPER_LIMIT`, in that order; NaN where unknown.
        years: since the last sale; NaN where unknown.
        where: `np.where` or `either`.
    """
    bed, bath, acre_lot, house_size, zip_code = (
        where((value >= 0) & (value <= limit), value, math.nan)
        for value, limit in zip(values, UPPER_LIMIT.values(), strict=True)
    )
    per_room = house_size / (bed + bath + 1)
    bath_per_bed = bath / where(bed >= 1, bed, math.nan)
    coverage = (house_size + 1) / (acre_lot * _SQUARE_FEET_PER_ACRE + 1)
    return bed, bath, acre_lot, house_size, per_room, bath_per_bed, coverage, years, zip_code


def hedonic_inputs(value_of: Callable[[str], Any], where: Where) -> tuple[Any, ...]:
    """The inputs x of the regression, float64, near zero for a typical house.

    `value_of` returns a feature of `PLAIN` by its name, as float64.
    """

    def bounded(name: str) -> Any:
        value, (least, most) = value_of(name), _BOUNDS[name]
        value = where(value != value, _TYPICAL[name], value)
        return where(value < least, least, where(value > most, most, value))

    return (
        np.log(bounded("house_size") / _TYPICAL["house_size"]),
        np.log((bounded("acre_lot") + 0.1) / (_TYPICAL["acre_lot"] + 0.1)),
        np.log((bounded("bed") + 1) / (_TYPICAL["bed"] + 1)),
        np.log((bounded("bath") + 1) / (_TYPICAL["bath"] + 1)),
        (bounded("years_since_sale") - _TYPICAL["years_since_sale"]) / 10,
    )


def encoded_features(
    effect: Mapping[str, Any],
    rows: Mapping[str, Any],
    status: Any,
    x: Sequence[Any],
    encodings: Encodings,
    where: Where,
) -> tuple[Any, ...]:
    """The features that follow `PLAIN` in `FEATURES`, in that order.

    Args:
        effect: of the listing's category, by column of `encodings.COLUMNS`.
        rows: training rows of that category, by the same columns.
        status: position of the listing's status.
        x: from `hedonic_inputs`.
        encodings: the fitted regression.
        where: `np.where` or `either`.
    """
    city = effect["state"] + effect["city"]
    zip_code = city + effect["zip_code"]
    hedonic = encodings.intercept + effect["status"] + zip_code
    # added one by one: a matrix product would round differently for one row than for many
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
        hedonic + math.log(TYPICAL_PRICE),
    )


def typical_baseline(encodings: Encodings) -> float:
    """The baseline of a typical house in an average place, in logarithms of the price."""
    return encodings.intercept + math.log(TYPICAL_PRICE)
