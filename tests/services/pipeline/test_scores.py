"""Errors in dollars follow their definitions, and segments cover all rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from core.listing.parsing import parse_listings
from core.model.estimates import Estimates
from pipeline.evaluation.scores import coverage, interval_segments, score, segments


def test_scores_equal_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    actual = np.exp(draw.normal(12, 0.5, 500))
    predicted = actual * np.exp(draw.normal(0, 0.2, 500))
    assert score(actual, predicted) == pytest.approx(
        {
            "rmse": metrics.root_mean_squared_error(actual, predicted),
            "mae": metrics.mean_absolute_error(actual, predicted),
            "r2": metrics.r2_score(actual, predicted),
            "mape": metrics.mean_absolute_percentage_error(actual, predicted),
        }
    )


def test_exact_prices_have_perfect_scores() -> None:
    assert score(np.array([1.0, 3.0]), np.array([1.0, 3.0])) == {"rmse": 0, "mae": 0, "r2": 1, "mape": 0}
    assert score(np.array([2.0, 2.0]), np.array([2.0, 2.0]))["r2"] == 0


def test_segments_cover_all_rows_without_small_segments() -> None:
    rows = [{"price": 1000.0 * at, "state": "Texas", "status": "sold"} for at in range(1, 1200)]
    rows += [{"price": 50_000.0, "state": "Utah", "status": None}] * 30 + [{"price": 50_000.0, "state": "Ohio"}] * 29
    listings = parse_listings(rows)
    result = segments(listings, listings["price"].to_numpy() + 1)
    assert {name: part["rows"] for name, part in result.items()} == {
        "price 0 to 100,000": 99 + 59,
        "price 100,000 to 200,000": 100,
        "price 200,000 to 300,000": 100,
        "price 300,000 to 500,000": 200,
        "price 500,000 to 1,000,000": 500,
        "price from 1,000,000": 200,
        "status sold": 1199,
        "state Texas": 1199,
        "state Utah": 30,
    }
    assert all(part["mae"] == pytest.approx(1) for part in result.values())


def test_coverage_includes_the_ends_of_the_interval() -> None:
    actual = np.array([1.0, 2.0, 3.0, 4.0])
    estimates = Estimates(actual, np.array([1.0, 0.0, 3.5, 0.0]), np.array([1.0, 1.5, 4.5, 8.0]))
    assert coverage(actual, estimates) == {"coverage": 0.5, "width": pytest.approx((0 + 1.5 + 1 + 8) / 4)}
    assert coverage(actual, Estimates(actual, None, None)) == {}


def test_interval_segments_use_the_estimate() -> None:
    listings = parse_listings([{"price": 50_000.0, "state": "Utah", "status": "sold"}] * 60)
    estimated = np.repeat([60_000.0, 150_000.0], 30)
    result = interval_segments(listings, Estimates(estimated, estimated * 0.5, estimated * 2))
    assert {name: (part["rows"], part["coverage"]) for name, part in result.items()} == {
        "estimate 0 to 100,000": (30, 1.0),
        "estimate 100,000 to 200,000": (30, 0.0),
        "status sold": (60, 0.5),
        "state Utah": (60, 0.5),
    }
    assert interval_segments(listings, Estimates(estimated, None, None)) == {}


def test_no_rows_have_no_segments() -> None:
    assert segments(parse_listings([]), np.empty(0)) == {}
