"""Prices, prediction intervals and explanations, computed from a booster and a feature matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from core.features.columns import BASELINE, FEATURES
from core.features.encodings import Encodings
from core.features.formulas import typical_baseline
from core.model.booster import Booster
from core.model.intervals import Intervals

BASELINE_POSITION = FEATURES.index(BASELINE)


class Estimate(TypedDict):
    """Price and prediction interval of one listing, in dollars. Without intervals, `low` and `high` are None."""

    price: float
    low: float | None
    high: float | None


class EstimateColumns(TypedDict):
    """Prices and prediction intervals of several listings, as in `Estimate`."""

    prices: list[float]
    low: list[float] | None
    high: list[float] | None


@dataclass(frozen=True)
class Estimates:
    """Prices of listings with their prediction intervals (`core.model.intervals`)."""

    prices: np.ndarray  # float64, (rows,), dollars
    low: np.ndarray | None  # as prices; None if the model has no intervals
    high: np.ndarray | None  # as low

    def row(self, at: int) -> Estimate:
        """The estimate of one listing."""
        return {
            "price": float(self.prices[at]),
            "low": None if self.low is None else float(self.low[at]),
            "high": None if self.high is None else float(self.high[at]),
        }

    def to_json(self) -> EstimateColumns:
        """The estimates of all listings as plain values."""
        return {
            "prices": self.prices.tolist(),
            "low": None if self.low is None else self.low.tolist(),
            "high": None if self.high is None else self.high.tolist(),
        }


@dataclass(frozen=True)
class Explanation:
    """Contributions of the features to the prices of listings."""

    features: np.ndarray  # float32, (rows, len(FEATURES)); NaN where unknown
    estimates: Estimates  # those of `Bundle.estimate`
    expected: np.ndarray  # float64, (rows,), the model's expected logarithm of a price
    shap: np.ndarray  # float64, (rows, len(FEATURES)), SHAP values: they add up with `expected` to the log price

    @property
    def base_values(self) -> np.ndarray:
        """Dollars, float64 (rows,): the price to which the contributions are added."""
        dollars: np.ndarray = np.exp(self.expected)
        return dollars

    @property
    def contributions(self) -> np.ndarray:
        """Dollars of each feature, float64 (rows, len(FEATURES)); with the base value they add up to the price.

        A feature's contribution is the change of the price that it causes along the straight line from the expected
        logarithm to the logarithm of the listing's price (the attribution of Aumann and Shapley; integrated gradients).
        On a straight line, this is its SHAP value times the logarithmic mean of both prices,
        (price - base) / (log price - log base). So the order of the features does not matter, equal SHAP values are
        equal amounts in dollars, and signs and zeros are kept.
        """
        moved = self.shap.sum(axis=1)
        rate = np.divide(np.expm1(moved), moved, out=np.ones_like(moved), where=moved != 0)
        dollars: np.ndarray = self.shap * (self.base_values * rate)[:, np.newaxis]
        return dollars


def baseline(matrix: np.ndarray) -> np.ndarray:
    """Logarithms of the prices that the regression predicts, float64 (rows,)."""
    return matrix[:, BASELINE_POSITION].astype(np.float64)


def prices(booster: Booster, matrix: np.ndarray) -> np.ndarray:
    """Dollars, float64 (rows,), of a feature matrix: the trees add to the baseline's logarithm of the price."""
    dollars: np.ndarray = np.exp(baseline(matrix) + booster.predict(matrix))
    return dollars


def estimates(booster: Booster, intervals: Intervals | None, matrix: np.ndarray) -> Estimates:
    """Prices of a feature matrix, with prediction intervals if the model has them."""
    dollars = prices(booster, matrix)
    return Estimates(dollars, *(intervals.of_many(matrix, dollars) if intervals else (None, None)))


def contributions(booster: Booster, matrix: np.ndarray, encodings: Encodings) -> tuple[np.ndarray, np.ndarray]:
    """Expected logarithm of a price, (rows,), and SHAP values of the features, (rows, len(FEATURES)), both float64.

    These are the SHAP values of the trees. The value of the baseline's feature also has the difference of the baseline
    from that of a typical house.
    """
    shap, typical = booster.contributions(matrix), typical_baseline(encodings)
    added = shap[:, :-1].copy()
    added[:, BASELINE_POSITION] += baseline(matrix) - typical
    return shap[:, -1] + typical, added
