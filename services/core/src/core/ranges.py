"""Price ranges: four of five houses like this one have prices within (`LEVEL`).

A range is the price times two factors, looked up by what is known of the listing (`knowledge`) and in which bin the
price lies. The factors are quantiles of paid by predicted prices, measured on rows that were not trained on
(`pipeline.calibration`): split conformal prediction within groups, so-called Mondrian (Vovk, Gammerman and Shafer,
Algorithmic Learning in a Random World, 2005, chapter 4). So the share of houses within their range holds in each group,
whatever the model is worth there, as long as houses are like those that were measured.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from core.features import FEATURES

LEVEL = 0.8
# What is asked of a listing, and how many answers there are: how far its place is known (not at all, its state, its
# city, its zip code), whether its living area, how many of bed and bath, whether its lot, its last sale, its status.
KNOWN = {"place": 4, "house_size": 2, "rooms": 3, "acre_lot": 2, "prev_sold_date": 2, "status": 2}
GROUPS = math.prod(KNOWN.values())
_STATE, _CITY, _ZIP = map(FEATURES.index, ("state_premium", "city_rows", "zip_rows"))
_SIZE, _BED, _BATH, *_OTHERS = map(
    FEATURES.index, ("house_size", "bed", "bath", "acre_lot", "years_since_sale", "status")
)


@dataclass(frozen=True)
class Bins:
    """Factors of the range, by bins of the price."""

    edges: Sequence[float]  # dollars, ascending: an edge belongs to the bin above it
    low: Sequence[float]  # one more than edges; at most 1
    high: Sequence[float]  # as many; at least 1


@dataclass(frozen=True)
class Ranges:
    """What it takes to give the range of a price."""

    groups: Sequence[Bins]  # by `knowledge`

    def of_one(self, features: Sequence[float], price: float) -> tuple[float, float]:
        """Low and high, dollars, of a listing with these features (in the order of `FEATURES`) and this price."""
        bins = self.groups[knowledge(features)]
        at = bisect_right(bins.edges, price)
        return price * bins.low[at], price * bins.high[at]

    def of_many(self, matrix: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high, dollars, float64 (rows,) each: to the last bit those of `of_one`.

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
        """As plain values."""
        return {"level": LEVEL, "groups": [asdict(bins) for bins in self.groups]}

    @staticmethod
    def from_json(known: Mapping[str, Any]) -> Ranges:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else, or its numbers are no ranges.
        """
        groups = [
            Bins(*([float(value) for value in bins[name]] for name in ("edges", "low", "high")))
            for bins in known["groups"]
        ]
        if known["level"] != LEVEL or len(groups) != GROUPS or not all(map(_sound, groups)):
            raise ValueError(f"ranges need {GROUPS} groups at level {LEVEL}, each with low <= 1 <= high in every bin")
        return Ranges(groups)


def _sound(bins: Bins) -> bool:
    return (
        len(bins.low) == len(bins.high) == len(bins.edges) + 1
        and all(before < after for before, after in pairwise(bins.edges))
        and all(0 < low <= 1 <= high < math.inf for low, high in zip(bins.low, bins.high, strict=True))
    )


def knowledge(features: Sequence[float]) -> int:
    """The group, below `GROUPS`, of one listing: the answers to `KNOWN`, the first one counting least.

    The less is known of a listing, the less its price is known.
    """
    place = 0
    if features[_CITY] > 0:
        place = 3 if features[_ZIP] > 0 else 2
    elif features[_STATE] != 0:  # a state that was never seen has no premium
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


def _group(*answers: Any) -> Any:
    group = 0
    for answer, possible in zip(reversed(answers), reversed(KNOWN.values()), strict=True):
        group = group * possible + answer
    return group
