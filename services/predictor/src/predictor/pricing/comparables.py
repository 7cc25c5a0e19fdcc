"""Chooses sales that are similar to a listing: the sales comparison approach, with a rule that can be read.

1. Sales in the listing's ZIP code come first. If there are too few, the rest comes from its city, then from its state.
2. Within such a place, the sales with the smallest distance come first. The distance is a sum of steps: the difference
   of each field, divided by its entry in `STEPS`. A field that the listing does not have does not count.

A city that the model does not know is replaced by the one in which most training rows of the ZIP code were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np

from core.features.encodings import Encodings
from core.features.formulas import UPPER_LIMIT
from core.features.unencoded import city_key
from core.model.sales import NO_ZIP, ROW, UNKNOWN_DAY, SalesTable, day_of
from predictor.errors import NoModelError, NoSalesError
from predictor.pricing.places import split_city
from predictor.pricing.ports import ModelSource

MAX_SALES = 50  # in an answer
PlaceKind = Literal["zip_code", "city", "state"]


class FieldScale(NamedTuple):
    """The difference of a field that counts as one step."""

    size: float
    least: float | None = None  # ratios count instead of differences; smaller values count as this one


STEPS = {
    "house_size": FieldScale(math.log(1.2), 100),  # 20 % more or less
    "acre_lot": FieldScale(math.log(2), 0.01),  # twice or half as much
    "bed": FieldScale(1),
    "bath": FieldScale(1),
}
STEP_YEARS = 5  # older than the newest sale of the model
MISSING_STEPS = 2.0  # of a field that the sale does not have
_DAYS_PER_YEAR = 365.25
_DIGITS = 9  # of a distance after the decimal point: the last bits of a sum must not decide between equal sales


@dataclass(frozen=True)
class ComparedListing:
    """The fields of a listing that the choice needs."""

    zip_code: float | None = None
    city: str | None = None
    state: str | None = None
    house_size: float | None = None
    acre_lot: float | None = None
    bed: float | None = None
    bath: float | None = None


@dataclass(frozen=True)
class FieldDifference:
    """One part of a distance. `difference` is the sale's value minus that of the listing; None if the sale has none.

    For `sold_on`, it is the years from the newest sale of the model to this one, at most 0.
    """

    field: str
    difference: float | None
    steps: float


@dataclass(frozen=True)
class Comparable:
    """A similar sale, and why it is similar: the common place, and the parts of its distance."""

    price: float
    sold_on: date | None
    house_size: float | None
    acre_lot: float | None
    bed: float | None
    bath: float | None
    zip_code: str | None
    city: str | None
    state: str | None
    same: PlaceKind
    distance: float
    differences: list[FieldDifference]


@dataclass(frozen=True)
class Comparables:
    """The most similar sales of a model, the best first."""

    model_name: str
    model_version: str
    sales: list[Comparable]


class ComparableSearch:
    """Searches the sales of the current champion. Can be used in any thread."""

    def __init__(self, models: ModelSource) -> None:
        self._models = models

    def search(self, listing: ComparedListing, limit: int) -> Comparables:
        """At most `limit` sales that are similar to a listing; none if its place is unknown.

        Raises:
            NoModelError: no model is loaded yet.
            NoSalesError: the model has no sales.
        """
        state = self._models.state
        if state.model is None:
            raise NoModelError(state.problem or "no model is loaded yet")
        version, bundle = state.model.version, state.model.bundle
        if bundle.sales is None:
            raise NoSalesError(
                f"version {version.version} of the model has no sales, because an earlier release trained it: the next "
                "model that the pipeline promotes has them"
            )
        placed = with_places(listing, bundle.encodings)
        return Comparables(version.name, version.version, similar(bundle.sales, placed, limit))


def with_places(listing: ComparedListing, encodings: Encodings) -> ComparedListing:
    """The listing with the usual city of its ZIP code, if the model does not know its city."""
    cities, zips = encodings.tables["city"].index, encodings.tables["zip_code"].index
    if listing.zip_code is None or city_key(listing.city, listing.state) in cities:
        return listing
    at = int(encodings.within["zip_code"][zips.get(listing.zip_code, -1)])
    state, city = split_city(str(next(islice(cities, at, None), "")))
    return replace(listing, city=city, state=state) if city and listing.state in (None, state) else listing


def similar(table: SalesTable, listing: ComparedListing, limit: int) -> list[Comparable]:
    """The most similar sales by the rule of this module. Ties are decided by the order of the rows."""
    chosen: list[Comparable] = []
    seen: list[slice] = []  # rows of narrower places: all of them are among the chosen ones
    for kind, inside in _places(table, listing):
        rows = _nearest_rows(table, listing, inside, seen, limit - len(chosen))
        parts = steps(table.rows[rows], table.newest, listing)
        for at, row in enumerate(rows.tolist()):
            own = {name: float(values[at]) for name, values in parts.items()}
            chosen.append(_comparable(table, row, kind, own, listing))
        if len(chosen) == limit:
            break
        seen += inside
    return chosen


def _places(table: SalesTable, listing: ComparedListing) -> list[tuple[PlaceKind, list[slice]]]:
    """The places of a listing, narrower ones first, with their rows."""
    places: list[tuple[PlaceKind, list[slice]]] = []
    if listing.zip_code is not None:
        places.append(("zip_code", table.in_zip(int(listing.zip_code))))
    if listing.state is not None:
        if listing.city is not None:
            places.append(("city", table.in_city(listing.state, listing.city)))
        places.append(("state", table.in_state(listing.state)))
    return places


def _nearest_rows(
    table: SalesTable, listing: ComparedListing, inside: Sequence[slice], seen: Sequence[slice], count: int
) -> np.ndarray:
    """The rows of a place with the smallest distances, without those in `seen`."""
    distances, rows = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for part in inside:
        distance = np.zeros(part.stop - part.start)
        for values in steps(table.rows[part], table.newest, listing).values():
            distance += values
        np.round(distance, _DIGITS, out=distance)
        for other in seen:
            distance[max(other.start - part.start, 0) : max(other.stop - part.start, 0)] = np.inf
        best = nearest(distance, count)
        distances.append(distance[best])
        rows.append(best + part.start)
    distance = np.concatenate(distances)
    best = nearest(distance, count)
    matches: np.ndarray = np.concatenate(rows)[best[np.isfinite(distance[best])]]
    return matches


def steps(rows: np.ndarray, newest: int, listing: ComparedListing) -> dict[str, np.ndarray]:
    """The parts of the distance of each sale, float64 (rows,), by field. Their sum is the distance.

    Args:
        rows: sales, as in `SalesTable.rows`.
        newest: `SalesTable.newest`.
        listing: the listing to compare with.
    """
    parts: dict[str, np.ndarray] = {}
    for name, step in STEPS.items():
        value = getattr(listing, name)
        if value is not None and value <= UPPER_LIMIT[name]:
            parts[name] = np.abs(_scale(rows[name].astype(np.float64), step) - _scale(value, step)) / step.size
            parts[name][np.isnan(parts[name])] = MISSING_STEPS
    sold = rows["sold"]
    parts["sold_on"] = (newest - sold.astype(np.float64)) / (_DAYS_PER_YEAR * STEP_YEARS)
    parts["sold_on"][sold == UNKNOWN_DAY] = MISSING_STEPS
    return parts


def _scale(values: Any, step: FieldScale) -> Any:
    return values if step.least is None else np.log(np.maximum(values, step.least))


def nearest(distance: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest distances, ascending. Equal distances keep their order."""
    rows = np.arange(len(distance))
    if len(distance) > count:
        rows = np.flatnonzero(distance <= np.partition(distance, count - 1)[count - 1])
    order: np.ndarray = rows[np.argsort(distance[rows], kind="stable")[:count]]
    return order


def _comparable(
    table: SalesTable, row: int, same: PlaceKind, parts: dict[str, float], listing: ComparedListing
) -> Comparable:
    sale = {name: table.rows[name][row].item() for name in ROW.names or ()}
    values = {name: None if math.isnan(sale[name]) else sale[name] for name in STEPS}
    years = None if sale["sold"] == UNKNOWN_DAY else (sale["sold"] - table.newest) / _DAYS_PER_YEAR
    differences = {
        name: None if value is None else value - (getattr(listing, name) or 0) for name, value in values.items()
    }
    differences["sold_on"] = years
    (state, city), zip_code = table.place(row)
    return Comparable(
        price=float(sale["price"]),
        sold_on=day_of(sale["sold"]),
        **values,
        zip_code=None if zip_code == NO_ZIP else f"{zip_code:05d}",
        city=city or None,
        state=state or None,
        same=same,
        distance=sum(parts.values()),
        differences=[FieldDifference(name, differences[name], part) for name, part in parts.items()],
    )
