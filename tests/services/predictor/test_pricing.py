"""Every accepted listing gets a price, which does not depend on the other listings of the request."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.features.columns import FEATURES
from core.stores.registry import ModelVersion
from predictor.pricing.price import Pricing
from predictor.serving.follower import FollowerState
from predictor.serving.loader import LoadedModel
from tests.kit.small_models import Model

from .conftest import NAME
from .strategies import listings


@pytest.fixture(scope="session")
def pricing(models: tuple[Model, Model]) -> Pricing:
    version = ModelVersion(NAME, "1", "run-1", {}, "")
    state = FollowerState(LoadedModel(version, models[0].bundle, datetime.now(UTC)), None)
    return Pricing(SimpleNamespace(state=state), 100, 10)  # type: ignore[arg-type]


def prices(pricing: Pricing, rows: list[dict[str, Any]]) -> list[float]:
    answer: list[float] = pricing.answer(json.dumps(rows).encode(), "r")["prices"]
    return answer


@pytest.mark.filterwarnings("ignore:overflow")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(rows=some.lists(listings, min_size=1, max_size=5))
def test_accepted_listings_are_priced_the_same_alone_and_together(pricing: Pricing, rows: list[dict[str, Any]]) -> None:
    together = pricing.answer(json.dumps(rows).encode(), "r")
    intervals = list(zip(together["low"], together["prices"], together["high"], strict=True))
    assert all(0 < low <= price <= high < math.inf for low, price, high in intervals)
    alone = [pricing.answer(json.dumps(row).encode(), "r") for row in rows]
    assert intervals == [(one["low"], one["price"], one["high"]) for one in alone]


@pytest.mark.filterwarnings("ignore:overflow")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(rows=some.lists(listings, min_size=1, max_size=5))
def test_base_value_and_contributions_add_up_to_the_price(pricing: Pricing, rows: list[dict[str, Any]]) -> None:
    explained = pricing.explain(json.dumps(rows).encode(), "r")["explanations"]
    priced = pricing.answer(json.dumps(rows).encode(), "r")
    for name, many in (("price", "prices"), ("low", "low"), ("high", "high")):
        assert [one[name] for one in explained] == priced[many]
    for one in explained:
        dollars = [each["contribution"] for each in one["contributions"]]
        assert one["base_value"] + sum(dollars) == pytest.approx(one["price"], abs=0.005)
        assert sorted(each["feature"] for each in one["contributions"]) == sorted(FEATURES)
        assert dollars == sorted(dollars, key=abs, reverse=True)
        assert all(each["contribution"] * each["shap_value"] >= 0 for each in one["contributions"])
    alone = pricing.explain(json.dumps(rows[0]).encode(), "r")
    assert {name: alone[name] for name in explained[0]} == explained[0]


@pytest.mark.parametrize("size", [1, 99, 100, 999, 1000, 1001, 3000])
def test_length_of_the_list_does_not_change_prices(pricing: Pricing, models: tuple[Model, Model], size: int) -> None:
    """LightGBM uses several threads for long lists."""
    bundle = models[0].bundle
    rows = (bundle.golden_listings * (size // 13 + 1))[:size]
    expected = (bundle.golden_prices * (size // 13 + 1))[:size]
    large = Pricing(pricing._models, 5000, 10)
    assert prices(large, rows) == expected
