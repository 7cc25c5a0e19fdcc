"""Prediction intervals: four of five houses like this one have prices within the interval (`LEVEL`).

An interval is the price times two factors. The factors are looked up by the group of the listing (`knowledge`: which
of its fields are known) and by the bin of the price. They are quantiles of the ratio of paid to predicted prices,
measured on rows that were not trained on (`pipeline.training.calibration`): split conformal prediction within groups,
also called Mondrian (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, chapter 4). So the share
of houses within their interval holds in each group, however good the model is there, as long as houses are like those
that were measured.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from core.features.columns import FEATURES

LEVEL = 0.8
# For each part of a listing, the number of its levels of knowledge. place: nothing, state, city or zip code is known;
# rooms: none, one or both of bed and bath are known; the others: unknown or known.
KNOWN = {"place": 4, "house_size": 2, "rooms": 3, "acre_lot": 2, "prev_sold_date": 2, "status": 2}
GROUPS = math.prod(KNOWN.values())
_STATE, _CITY, _ZIP = map(FEATURES.index, ("state_premium", "city_rows", "zip_rows"))
_SIZE, _BED, _BATH, *_OTHERS = map(
    FEATURES.index, ("house_size", "bed", "bath", "acre_lot", "years_since_sale", "status")
)


@dataclass(frozen=True)
class Bins:
    """Factors of the interval, by bins of the price."""

    edges: Sequence[float]  # dollars, ascending: an edge belongs to the bin above it
    low: Sequence[float]  # len(edges) + 1; at most 1
    high: Sequence[float]  # len(edges) + 1; at least 1


@dataclass(frozen=True)
class Intervals:
    """Factors of the prediction intervals of a model."""

    groups: Sequence[Bins]  # by `knowledge`

    def of_one(self, features: Sequence[float], price: float) -> tuple[float, float]:
        """Low and high, dollars, of a listing with these features (in the order of `FEATURES`) and this price."""
        bins = self.groups[knowledge(features)]
        at = bisect_right(bins.edges, price)
        return price * bins.low[at], price * bins.high[at]

    def of_many(self, matrix: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high, dollars, float64 (rows,) each; bit-identical to `of_one`.

        Args:
            matrix: (rows, len(FEATURES)).
            prices: dollars, float64 (rows,).
        """
        low, high, group = np.empty(len(prices)), np.empty(len(prices)), knowledge_of_many(matrix)
        for number in np.unique(group):
            inside, bins = group == number, self.groups[number]
            at = np.searchsorted(bins.edges, prices[inside], side="right")
            low[inside] = prices[inside] * np.array(bins.low)[at]
            high[inside] = prices[inside] * np.array(bins.high)[at]
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"level": LEVEL, "groups": [asdict(bins) for bins in self.groups]}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Intervals:
        """Inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the content has another form, or its numbers cannot be intervals.
        """
        groups = [
            Bins(*([float(value) for value in bins[name]] for name in ("edges", "low", "high")))
            for bins in content["groups"]
        ]
        if content["level"] != LEVEL or len(groups) != GROUPS or not all(map(_valid, groups)):
            raise ValueError(
                f"intervals need {GROUPS} groups at level {LEVEL}, each with low <= 1 <= high in every bin"
            )
        return Intervals(groups)


def _valid(bins: Bins) -> bool:
    return (
        len(bins.low) == len(bins.high) == len(bins.edges) + 1
        and all(before < after for before, after in pairwise(bins.edges))
        and all(0 < low <= 1 <= high < math.inf for low, high in zip(bins.low, bins.high, strict=True))
    )


def knowledge(features: Sequence[float]) -> int:
    """The group of one listing, below `GROUPS`: its levels of knowledge in the order of `KNOWN`, the first one lowest.

    The price of a listing is less certain if fewer of its fields are known.
    """
    place = 0
    if features[_CITY] > 0:
        place = 3 if features[_ZIP] > 0 else 2
    elif features[_STATE] != 0:  # a state that is not in the encodings has no premium
        place = 1
    size, bed, bath, *others = (not math.isnan(features[at]) for at in (_SIZE, _BED, _BATH, *_OTHERS))
    group: int = _group(place, size, bed + bath, *others)
    return group


def knowledge_of_many(matrix: np.ndarray) -> np.ndarray:
    """`knowledge` of each row of a feature matrix, int64 (rows,)."""
    city = matrix[:, _CITY] > 0
    state = city | (matrix[:, _STATE] != 0)
    place = state.astype(np.int64) + city + (city & (matrix[:, _ZIP] > 0))
    size, bed, bath, *others = (~np.isnan(matrix[:, [_SIZE, _BED, _BATH, *_OTHERS]])).astype(np.int64).T
    groups: np.ndarray = _group(place, size, bed + bath, *others)
    return groups


def _group(*levels: Any) -> Any:
    group = 0
    for level, count in zip(reversed(levels), reversed(KNOWN.values()), strict=True):
        group = group * count + level
    return group
