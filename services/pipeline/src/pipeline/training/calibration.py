"""Calibrates the prediction intervals of a model on validation rows. The intervals are part of its bundle.

Most callers do not give all fields of a listing, but the rows of a batch are complete. So fields are removed from the
rows, and the errors are measured again for each group of `core.model.intervals.KNOWN`: fewer fields, wider interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.features.encodings import Encodings
from core.features.matrix import matrix
from core.features.unencoded import Columns
from core.model.booster import Booster
from core.model.estimates import prices
from core.model.intervals import GROUPS, KNOWN, LEVEL, Bins, Intervals, knowledge_of_many
from pipeline.rows import Deferred
from pipeline.training.encoded import Part

_SHAPE = tuple(KNOWN.values())
_PLACES = ("zip_code", "city", "state")
_MAX_ROWS = 50_000  # predictions take time
_MAX_PARTIAL_ROWS = 8_000  # for a group that lacks fields: halved for each field that it lacks
_MIN_PARTIAL_ROWS = 500  # but not fewer than this, if there are as many
_MAX_BINS = 20  # of the price, per group
_MIN_BIN_ROWS = 500  # if there are several bins; the standard error of a tail of 10 % is then 1.3 % of the rows
_MIN_ROWS = round(2 / (1 - LEVEL)) - 1  # with fewer rows, the tail below an interval has less than one row
_DIGITS = 6  # significant digits of a factor


def calibration_rows(parts: Sequence[Deferred[Part]]) -> list[Part]:
    """At most `_MAX_ROWS` rows of a split for `calibrate`, evenly spread."""
    step = max(1, -(-sum(part.count for part in parts) // _MAX_ROWS))
    return [part.read()[np.arange(0, part.count, step)] for part in parts]


def calibrate(booster: Booster, encodings: Encodings, rows: Sequence[Part]) -> Intervals | None:
    """Prediction intervals of a model, from rows that it was not trained on; None if there are too few rows.

    A group without rows, for example because no row has a living area, gets the intervals of the group without that
    field.
    """
    columns = Columns.together([part.columns.learned(encodings) for part in rows])
    actual = np.concatenate([part.price for part in rows])
    most_known = [int(column.max()) for column in _answers(knowledge_of_many(matrix(columns, encodings)))]
    groups: list[Bins] = []
    for group in range(GROUPS):
        answers = [int(answer) for answer in _answers(group)]
        some = np.arange(0, len(actual), max(1, -(-len(actual) // _max_rows(answers))))
        features = matrix(columns.take(some).without(_removed_fields(answers, len(some))), encodings)
        inside = knowledge_of_many(features) == group
        if inside.sum() >= _MIN_ROWS:
            groups.append(fit_bins(prices(booster, features[inside]), actual[some][inside]))
        elif groups:
            less = list(map(min, answers, most_known))
            groups.append(groups[-1 if less == answers else int(np.ravel_multi_index(less, _SHAPE, order="F"))])
        else:
            return None
    return Intervals(groups)


def _answers(groups: np.ndarray | int) -> tuple[np.ndarray, ...]:
    """For each question of `KNOWN`, the answer of each group, (rows,) each."""
    return np.unravel_index(groups, _SHAPE, order="F")


def _max_rows(answers: list[int]) -> int:
    missing = sum(answer < options - 1 for answer, options in zip(answers, _SHAPE, strict=True))
    return max(_MAX_PARTIAL_ROWS >> missing, _MIN_PARTIAL_ROWS) if missing else _MAX_ROWS


def _removed_fields(answers: list[int], rows: int) -> dict[str, np.ndarray | bool]:
    """The fields to remove from complete listings to put them into a group, for `Columns.without`."""
    group = dict(zip(KNOWN, answers, strict=True))
    removed: dict[str, np.ndarray | bool] = dict.fromkeys(_PLACES[: KNOWN["place"] - 1 - group["place"]], True)
    removed |= {name: True for name in ("house_size", "acre_lot", "prev_sold_date", "status") if not group[name]}
    odd = np.arange(rows) % 2 == 1  # one of bed and bath is removed: each in half of the rows
    rooms: list[dict[str, np.ndarray | bool]] = [{"bed": True, "bath": True}, {"bed": odd, "bath": ~odd}, {}]
    return removed | rooms[group["rooms"]]


def fit_bins(predicted: np.ndarray, actual: np.ndarray) -> Bins:
    """Interval factors from predicted and actual prices in dollars, (rows,) each, at least `_MIN_ROWS`.

    Bins have about the same number of rows. Each leaves a tenth of its rows below its interval, and a tenth above.
    """
    order = np.argsort(predicted, kind="stable")
    predicted, ratio = predicted[order], actual[order] / predicted[order]
    edges, ends = [], [0]
    for edge in np.unique(np.round(np.quantile(predicted, np.arange(1, _MAX_BINS) / _MAX_BINS))):
        at = int(np.searchsorted(predicted, edge, side="left"))
        if at - ends[-1] >= _MIN_BIN_ROWS and len(predicted) - at >= _MIN_BIN_ROWS:
            edges.append(float(edge))
            ends.append(at)
    parts = [np.sort(part) for part in np.split(ratio, ends[1:])]
    tail = (1 - LEVEL) / 2
    low, high = [], []
    for part in parts:
        # Finite-sample correction of split conformal prediction: one more row, the one that will be priced.
        below = int((len(part) + 1) * tail + 1e-9)
        low.append(min(1.0, _rounded(part[below - 1])))
        high.append(max(1.0, _rounded(part[len(part) - below])))
    return Bins(edges, low, high)


def _rounded(factor: float) -> float:
    return float(f"{factor:.{_DIGITS}g}")
