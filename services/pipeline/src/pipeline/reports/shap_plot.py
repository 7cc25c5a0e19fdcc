"""Positions and colours of the SHAP summary plot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.features.columns import FEATURES

_MAX_POINTS = 300  # per feature
_MAX_FEATURES = 12
_ROW, _LEFT, _WIDTH, _RIGHT = 30, 150, 560, 20  # pixels
_SMALL, _LARGE, _MISSING = (47, 109, 181), (214, 57, 57), "#9aa5b1"  # colours of values


@dataclass(frozen=True)
class FeatureRow:
    """The points of one feature: x and y in pixels, and colour."""

    name: str
    y: float
    points: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Plot:
    """The plot in pixels. A tick is its x and its label."""

    width: int
    height: int
    middle: float
    label_end: int
    features: list[FeatureRow]
    ticks: list[tuple[float, str]]


def lay_out(names: list[str], matrix: np.ndarray, contributions: np.ndarray) -> Plot:
    """Lay out the plot: a point per row and feature, further right the more it raises the price.

    A point is red if the value of the feature is large among the rows, blue if it is small, and grey if it is missing.

    Args:
        names: features, the most important first; at most 12 are shown.
        matrix: feature matrix of the rows, (rows, len(FEATURES)).
        contributions: SHAP values of the same shape, of the logarithm of the price.
    """
    names = names[:_MAX_FEATURES]
    rows = slice(0, len(matrix), max(1, len(matrix) // _MAX_POINTS))
    furthest = float(np.quantile(np.abs(contributions[rows]), 0.995)) or 1.0
    middle, scale = _LEFT + _WIDTH / 2, _WIDTH / 2 / furthest
    features = []
    for at, name in enumerate(names):
        column, y = FEATURES.index(name), _ROW * at + _ROW / 2
        x = middle + np.clip(contributions[rows, column], -furthest, furthest) * scale
        points = zip(x.tolist(), (y + _offsets(x)).tolist(), _colours(matrix[rows, column]), strict=True)
        features.append(FeatureRow(name, y, list(points)))
    shares = (-1.0, -0.5, 0.0, 0.5, 1.0)
    ticks = [(middle + share * _WIDTH / 2, f"{np.expm1(share * furthest):+.0%}") for share in shares]
    return Plot(_LEFT + _WIDTH + _RIGHT, _ROW * len(names) + 40, middle, _LEFT - 10, features, ticks)


def _offsets(x: np.ndarray) -> np.ndarray:
    """Vertical offset of each point, so that points close together do not hide each other."""
    offsets = np.empty(len(x))
    counts: dict[int, int] = {}
    for at, place in enumerate(np.round(x / 4).astype(int).tolist()):
        count = counts[place] = counts.get(place, -1) + 1
        offsets[at] = min((count + 1) // 2, 6) * 2.0 * (-1 if count % 2 else 1)
    return offsets


def _colours(values: np.ndarray) -> list[str]:
    """Colour of each value by its rank."""
    present = ~np.isnan(values)
    rank = np.zeros(len(values))
    order = np.sort(values[present])
    rank[present] = np.searchsorted(order, values[present], side="left") / max(1, present.sum() - 1)
    low, high = np.array(_SMALL), np.array(_LARGE)
    mixed = np.round(low + np.clip(rank, 0, 1)[:, None] * (high - low)).astype(int)
    return [
        f"#{r:02x}{g:02x}{b:02x}" if is_present else _MISSING
        for (r, g, b), is_present in zip(mixed, present, strict=True)
    ]
