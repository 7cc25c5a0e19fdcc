"""How far a model's prices can be trusted, measured on validation rows: the ranges that travel in its bundle.

Most callers do not know all of a listing, but the rows of a batch are complete. So what they may not know is taken
from the rows, and the errors are measured again for each group of `core.ranges.KNOWN`: the less is known, the wider.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from core.booster import Booster
from core.bundle import prices
from core.encodings import Encodings
from core.features import Columns, matrix
from core.ranges import GROUPS, KNOWN, LEVEL, Bins, Ranges, knowledge_of_many
from pipeline.encoded import Part

_SHAPE = tuple(KNOWN.values())
_PLACES = ("zip_code", "city", "state")
_ROWS = 50_000  # at most: predictions cost time
_PARTLY_KNOWN_ROWS = 8_000  # at most, for a group that not everything is known of: halved for each thing that is not
_LEAST_KNOWN_ROWS = 500  # but so many, where there are
_BINS = 20  # of the price, in each group
_BIN_ROWS = 500  # at least, where there are several: a tenth of the rows is then known to 1.3 % of them
_LEAST_ROWS = round(2 / (1 - LEVEL)) - 1  # of fewer, the tenth below a range is less than one
_DIGITS = 6  # of a factor

Measured = list[tuple[Columns, np.ndarray]]  # rows as far as nothing learned is needed, and their prices in dollars


def measured(parts: Iterable[Part]) -> Measured:
    """What `calibrate` needs of the parts of a split, evenly spread over their rows."""
    rows = [(part.columns, part.price) for part in parts]
    step = max(1, -(-sum(len(price) for _, price in rows) // _ROWS))
    return [(columns.take(np.arange(0, len(price), step)), price[::step]) for columns, price in rows]


def calibrate(booster: Booster, encodings: Encodings, rows: Measured) -> Ranges | None:
    """The ranges of a model's prices, from rows that it was not trained on; None where they are too few to tell.

    A group that has no such rows, as nobody told a living area, has the ranges of the one that knows so much less.
    """
    columns = Columns.together([one.learned(encodings) for one, _ in rows])
    paid = np.concatenate([price for _, price in rows])
    most_known = [int(answers.max()) for answers in _answers(knowledge_of_many(matrix(columns, encodings)))]
    groups: list[Bins] = []
    for group in range(GROUPS):
        known = [int(answer) for answer in _answers(group)]
        some = np.arange(0, len(paid), max(1, -(-len(paid) // _most_rows(known))))
        features = matrix(columns.take(some).without(_taken(known, len(some))), encodings)
        inside = knowledge_of_many(features) == group
        if inside.sum() >= _LEAST_ROWS:
            groups.append(bins(prices(booster, features[inside]), paid[some][inside]))
        elif groups:
            less = list(map(min, known, most_known))
            groups.append(groups[-1 if less == known else int(np.ravel_multi_index(less, _SHAPE, order="F"))])
        else:
            return None
    return Ranges(groups)


def _answers(groups: np.ndarray | int) -> tuple[np.ndarray, ...]:
    """The answers to `KNOWN` of groups, (rows,) each."""
    return np.unravel_index(groups, _SHAPE, order="F")


def _most_rows(known: list[int]) -> int:
    unknown = sum(answer < answers - 1 for answer, answers in zip(known, _SHAPE, strict=True))
    return max(_PARTLY_KNOWN_ROWS >> unknown, _LEAST_KNOWN_ROWS) if unknown else _ROWS


def _taken(known: list[int], rows: int) -> dict[str, np.ndarray | bool]:
    """What is to be taken from listings of which everything is known, for `Columns.without`."""
    told = dict(zip(KNOWN, known, strict=True))
    taken: dict[str, np.ndarray | bool] = dict.fromkeys(_PLACES[: KNOWN["place"] - 1 - told["place"]], True)
    taken |= {name: True for name in ("house_size", "acre_lot", "prev_sold_date", "status") if not told[name]}
    odd = np.arange(rows) % 2 == 1  # of two rooms one is unknown: each in half of the rows
    rooms: list[dict[str, np.ndarray | bool]] = [{"bed": True, "bath": True}, {"bed": odd, "bath": ~odd}, {}]
    return taken | rooms[told["rooms"]]


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
