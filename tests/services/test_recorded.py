"""What the platform says of recorded listings: ranges that hold on every segment, and contributions that add up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from core.features import FEATURES, RAW_SCHEMA, TARGET
from pipeline.scores import coverage, range_segments
from predictor.reasons import reasons
from tests.bench import coverage as bench
from tests.bench.features import settings
from tests.services.pipeline.chance import surely

RECORDING = os.environ.get("HOUSE_RECORDING_DIR", "")
pytestmark = pytest.mark.skipif(not RECORDING, reason="HOUSE_RECORDING_DIR names no folder of recorded listings")
QUICK = settings(num_threads=1, num_boost_round=150, learning_rate=0.2)
EXPLAINED = 400


@pytest.fixture(scope="module")
def trained() -> bench.Trained:
    return bench.train(bench.recorded_batches(Path(RECORDING), 0.2), QUICK)


def test_share_within_the_range_is_as_promised_over_all_and_per_segment(trained: bench.Trained) -> None:
    test, measured = trained.parts["test"], trained.parts["validation"].height
    found = trained.bundle.estimate(test)
    assert found.low is not None
    assert found.high is not None
    assert np.isfinite([found.low, found.prices, found.high]).all()
    assert (found.low <= found.prices).all()
    assert (found.prices <= found.high).all()
    whole = coverage(test[TARGET].to_numpy(), found)
    assert surely(whole["coverage"], test.height, measured), whole
    parts = range_segments(test, found)
    kinds = [name.split()[0] for name in parts]
    assert (kinds.count("estimate"), kinds.count("status")) == (3, 2)
    assert kinds.count("state") > 40
    # not chance alone: places and statuses are drawn per batch, so they tell of the batch, which the model cannot know
    far = {name: part for name, part in parts.items() if not surely(part["coverage"], part["rows"], measured, 0.04)}
    assert far == {}


def test_share_within_the_range_is_as_promised_on_whole_listings_of_one_batch() -> None:
    """Every column of batch 3 was recorded; its test rows are few, so those of many splits are counted together."""
    inside = rows = 0
    for seed in range(8):
        one = bench.train(bench.recorded_splits(Path(RECORDING), seed), QUICK)
        test = one.parts["test"]
        inside += test.height * coverage(test[TARGET].to_numpy(), one.bundle.estimate(test))["coverage"]
        rows += test.height
    assert surely(inside / rows, rows // 4, rows // 4), "rows come in several splits: they are as fewer"


def test_recorded_listings_are_priced_alone_as_among_others(trained: bench.Trained) -> None:
    raw = trained.parts["test"].select(RAW_SCHEMA.keys())
    found, listings = trained.bundle.estimate(raw), raw.drop(TARGET).to_dicts()
    assert [trained.bundle.estimate_one(listing) for listing in listings] == [found.row(at) for at in range(raw.height)]


def test_contributions_lead_from_the_base_value_to_the_price(trained: bench.Trained) -> None:
    test = trained.parts["test"]
    spread = test[:: -(-test.height // EXPLAINED)].vstack(test.filter(test["batch"] == bench.WHOLE)[:EXPLAINED])
    listings = spread.select(RAW_SCHEMA.keys()).drop(TARGET).to_dicts()
    raw = spread.select(RAW_SCHEMA.keys())
    told = reasons(trained.bundle.explain(raw), listings)
    assert len(told) > EXPLAINED
    for one, listing, price in zip(told, listings, trained.bundle.predict(raw), strict=True):
        assert one["price"] == price, listing
        assert one["low"] <= price <= one["high"], listing
        assert {each["feature"] for each in one["contributions"]} == set(FEATURES)
        added = sum(each["contribution"] for each in one["contributions"])
        assert one["base_value"] + added == pytest.approx(price, abs=0.005), listing
        moved = sum(each["shap_value"] for each in one["contributions"])
        assert np.log(one["base_value"]) + moved == pytest.approx(np.log(price), abs=1e-9), listing
