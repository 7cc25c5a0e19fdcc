"""Every listing that is accepted is priced, and by itself as among others."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.features import FEATURES
from core.registry import ModelVersion
from predictor.champion import Champion, State
from predictor.listing import STATES
from predictor.pricing import Pricing

from .conftest import NAME, Model

numbers = some.none() | some.floats(min_value=0, allow_nan=False, allow_infinity=False) | some.integers(0, 10**18)
texts = some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=200) | some.sampled_from(STATES)
listings = some.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("bed", "bath", "acre_lot", "house_size", "street", "brokered_by"), numbers),
        **dict.fromkeys(("status", "city", "state"), texts),
        "zip_code": some.none() | some.integers(0, 99_999) | some.from_regex(r"[0-9]{1,5}(-[0-9]{4})?", fullmatch=True),
        "prev_sold_date": some.none() | some.dates(min_value=date(1, 1, 1)).map(str),
    },
)


@pytest.fixture(scope="session")
def pricing(models: tuple[Model, Model]) -> Pricing:
    version = ModelVersion(NAME, "1", "run-1", {}, "")
    state = State(Champion(version, models[0].bundle, datetime.now(UTC)), None)
    return Pricing(SimpleNamespace(state=state), 100, 10)  # type: ignore[arg-type]


def prices(pricing: Pricing, rows: list[dict[str, Any]]) -> list[float]:
    found: list[float] = pricing.answer(json.dumps(rows).encode(), "r")["prices"]
    return found


@pytest.mark.filterwarnings("ignore:overflow")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(rows=some.lists(listings, min_size=1, max_size=5))
def test_accepted_means_priced_and_company_changes_nothing(pricing: Pricing, rows: list[dict[str, Any]]) -> None:
    together = pricing.answer(json.dumps(rows).encode(), "r")
    ranged = list(zip(together["low"], together["prices"], together["high"], strict=True))
    assert all(0 < low <= price <= high < math.inf for low, price, high in ranged)
    alone = [pricing.answer(json.dumps(row).encode(), "r") for row in rows]
    assert ranged == [(one["low"], one["price"], one["high"]) for one in alone]


@pytest.mark.filterwarnings("ignore:overflow")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(rows=some.lists(listings, min_size=1, max_size=5))
def test_contributions_lead_from_the_base_value_to_the_very_price(pricing: Pricing, rows: list[dict[str, Any]]) -> None:
    told = pricing.explain(json.dumps(rows).encode(), "r")["explanations"]
    priced = pricing.answer(json.dumps(rows).encode(), "r")
    for name, many in (("price", "prices"), ("low", "low"), ("high", "high")):
        assert [one[name] for one in told] == priced[many]
    for one in told:
        dollars = [each["contribution"] for each in one["contributions"]]
        assert one["base_value"] + sum(dollars) == pytest.approx(one["price"], abs=0.005)
        assert sorted(each["feature"] for each in one["contributions"]) == sorted(FEATURES)
        assert dollars == sorted(dollars, key=abs, reverse=True)
        assert all(each["contribution"] * each["shap_value"] >= 0 for each in one["contributions"])
    alone = pricing.explain(json.dumps(rows[0]).encode(), "r")
    assert {name: alone[name] for name in told[0]} == told[0]


@pytest.mark.parametrize("size", [1, 99, 100, 999, 1000, 1001, 3000])
def test_length_of_the_list_changes_nothing(pricing: Pricing, models: tuple[Model, Model], size: int) -> None:
    """The library uses several threads for long lists."""
    bundle = models[0].bundle
    rows = (bundle.golden_listings * (size // 13 + 1))[:size]
    expected = (bundle.golden_prices * (size // 13 + 1))[:size]
    large = Pricing(pricing._follower, 5000, 10)
    assert prices(large, rows) == expected
