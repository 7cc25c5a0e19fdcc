"""How far a model's prices can be trusted, measured on validation rows: the ranges that travel in its bundle.

Most callers do not know all of a listing, but the rows of a batch are complete. So what they may not know, the place
and the living area, is taken from the rows, and the errors are measured again: a range is wide where little is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np

from core.booster import Booster
from core.bundle import prices
from core.encodings import Encodings
from core.features import Columns, matrix
from core.ranges import LEVEL, PLACES, Bins, Ranges, knowledge_of_many
from pipeline.encoded import Part

_PLACES = ("zip_code", "city", "state")
_ROWS = 50_000  # at most: predictions cost time
_PARTLY_KNOWN_ROWS = 10_000  # at most, for each group that not everything is known of
_BINS = 20  # of the price, in each group
_BIN_ROWS = 500  # at least, where there are several: a tenth of the rows is then known to 1.3 % of them
_LEAST_ROWS = round(2 / (1 - LEVEL)) - 1  # of fewer, the tenth below a range is less than one
_DIGITS = 6  # of a factor

Measured = list[tuple[Columns, np.ndarray]]  # rows as far as nothing learned is needed, and their prices in dollars


def measured(parts: Iterable[Part]) -> Measured:
    """What `calibrate` needs of the parts of a split, evenly spread over their rows."""
    return _thinned([(part.columns, part.price) for part in parts], _ROWS)


def calibrate(booster: Booster, encodings: Encodings, rows: Measured) -> Ranges | None:
    """The ranges of a model's prices, from rows that it was not trained on; None where they are too few to tell.

    A group of listings that has no such rows, as there is none of unknown state among those of one state, has the
    ranges of the next one that less is known of.
    """
    some = _thinned(rows, _PARTLY_KNOWN_ROWS)
    groups: list[Bins] = []
    for sized, place in product((False, True), range(PLACES)):
        unknown = _PLACES[: PLACES - 1 - place] + (() if sized else ("house_size",))
        features, paid = _features(
            [(one.without(unknown), price) for one, price in some] if unknown else rows, encodings
        )
        inside = knowledge_of_many(features) == len(groups)
        if inside.sum() >= _LEAST_ROWS:
            groups.append(bins(prices(booster, features[inside]), paid[inside]))
        elif groups:
            groups.append(groups[-1 if place else -PLACES])
        else:
            return None
    return Ranges(groups)


def _thinned(rows: Measured, most: int) -> Measured:
    step = max(1, -(-sum(len(price) for _, price in rows) // most))
    return [(columns.take(np.arange(0, len(price), step)), price[::step]) for columns, price in rows]


def _features(rows: Measured, encodings: Encodings) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([matrix(one, encodings) for one, _ in rows]), np.concatenate([price for _, price in rows])


def bins(predicted: np.ndarray, paid: np.ndarray) -> Bins:
    """Factors from predicted and paid prices of rows, dollars, (rows,) each, at least `_LEAST_ROWS`.

    Bins hold as many rows each, as far as that can be; each leaves a tenth of its rows below and above.
    """
    order = np.argsort(predicted, kind="stable")
    predicted, ratio = predicted[order], paid[order] / predicted[order]
    edges, ends = [], [0]
    for edge in np.unique(np.round(np.quantile(predicted, np.arange(1, _BINS) / _BINS))):
        at = int(np.searchsorted(predicted, edge, side="left"))
        if at - ends[-1] >= _BIN_ROWS and len(predicted) - at >= _BIN_ROWS:
            edges.append(float(edge))
            ends.append(at)
    parts = [np.sort(part) for part in np.split(ratio, ends[1:])]
    tail = (1 - LEVEL) / 2
    low, high = [], []
    for part in parts:
        # of one row more than there are, the one that will be asked for (finite-sample correction)
        below = int((len(part) + 1) * tail + 1e-9)
        low.append(min(1.0, _short(part[below - 1])))
        high.append(max(1.0, _short(part[len(part) - below])))
    return Bins(edges, low, high)


def _short(factor: float) -> float:
    return float(f"{factor:.{_DIGITS}g}")
