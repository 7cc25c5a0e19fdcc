"""A range holds its price, is the same for one row as for many, and follows from what is known of the listing."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from core.bundle import load_bundle
from core.features import RAW_SCHEMA, Columns, build_features, matrix, parse_listings
from core.ranges import GROUPS, PLACES, Bins, Ranges, knowledge, knowledge_of_many

from .conftest import Trained

MISSING: list[tuple[str, ...]] = [("state", "city", "zip_code"), ("city", "zip_code"), ("zip_code",), ()]


def drawn(draw: np.random.Generator) -> Bins:
    edges = np.unique(np.round(np.exp(draw.uniform(0, 18, draw.integers(0, 12)))))
    low, high = draw.uniform(0.01, 1, len(edges) + 1), draw.uniform(1, 9, len(edges) + 1)
    return Bins(edges.tolist(), low.tolist(), high.tolist())


@given(some.integers(0, 2**32))
def test_range_holds_the_price_and_is_the_same_alone_and_among_others(trained: Trained, seed: int) -> None:
    draw = np.random.default_rng(seed)
    ranges = Ranges([drawn(draw) for _ in range(GROUPS)])
    rows = draw.integers(0, len(trained.matrix), 40)
    features = trained.matrix[rows].copy()
    features[draw.random(features.shape) < 0.1] = np.nan
    features[draw.random(features.shape) < 0.1] = 0
    prices = np.exp(draw.uniform(0, 18, len(rows)))
    on_edges = [edge for bins in ranges.groups for edge in bins.edges][:20]
    prices[: len(on_edges)] = on_edges
    low, high = ranges.of_many(features, prices)
    assert (low <= prices).all()
    assert (prices <= high).all()
    together = list(zip(low.tolist(), high.tolist(), strict=True))
    for spelled in (features.tolist(), features):
        assert [ranges.of_one(row, price) for row, price in zip(spelled, prices.tolist(), strict=True)] == together
    assert Ranges.from_json(ranges.to_json()) == ranges


def test_no_rows_have_no_ranges(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    found = bundle.estimate(parse_listings([]))
    assert found.to_json() == {"prices": [], "low": [], "high": []}


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("sized", [False, True])
def test_group_is_what_is_known_of_the_listing(trained: Trained, place: int, sized: bool) -> None:
    encodings = load_bundle(trained.folder).encodings
    unknown = [*MISSING[place], *([] if sized else ["house_size"])]
    raw = trained.rows.drop(unknown).with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)
    features = build_features(raw.select(RAW_SCHEMA.keys()), encodings)
    sizes = features[:, 3]
    assert sized or np.isnan(sizes).all()
    want = [place + PLACES * (not math.isnan(size)) for size in sizes]
    assert knowledge_of_many(features).tolist() == want
    assert [knowledge(row) for row in features.tolist()] == want


def test_place_that_was_never_seen_is_as_one_that_is_not_told(trained: Trained) -> None:
    encodings = load_bundle(trained.folder).encodings
    known = trained.rows.row(0, named=True)
    for change, place in (
        ({"zip_code": 99_998}, 2),
        ({"city": "Nowhere"}, 1),
        ({"city": "Nowhere", "zip_code": None}, 1),
        ({"state": "Nowhere"}, 0),
        ({"state": "Nowhere", "city": None, "zip_code": None}, 0),
        ({}, 3),
    ):
        features = build_features(parse_listings([known | change]), encodings)
        assert knowledge_of_many(features).tolist() == [place + PLACES], change


@pytest.mark.parametrize("unknown", [*MISSING, ("house_size",), ("house_size", "zip_code"), ("status", "brokered_by")])
def test_columns_without_a_field_are_those_of_listings_without_it(trained: Trained, unknown: tuple[str, ...]) -> None:
    encodings = load_bundle(trained.folder).encodings
    raw = trained.rows.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)
    whole = Columns.of(trained.rows)
    before = matrix(whole, encodings)
    assert np.array_equal(matrix(whole.without(unknown), encodings), build_features(raw, encodings), equal_nan=True)
    assert np.array_equal(matrix(whole, encodings), before, equal_nan=True), "the columns themselves stay"
