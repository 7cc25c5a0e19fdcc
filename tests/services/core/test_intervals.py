"""An interval contains its price, is the same for one row and for many, and depends on the known fields."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from core.features.columns import FIELDS
from core.features.matrix import build_features, matrix
from core.features.unencoded import Columns
from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from core.model.bundle import load_bundle
from core.model.intervals import GROUPS, KNOWN, Bins, Intervals, knowledge, knowledge_of_many

from .conftest import Trained

SIZES = ("bed", "bath", "acre_lot", "house_size", "prev_sold_date", "status")
MISSING: list[tuple[str, ...]] = [("state", "city", "zip_code"), ("city", "zip_code"), ("zip_code",), ()]


def random_bins(draw: np.random.Generator) -> Bins:
    edges = np.unique(np.round(np.exp(draw.uniform(0, 18, draw.integers(0, 12)))))
    low, high = draw.uniform(0.01, 1, len(edges) + 1), draw.uniform(1, 9, len(edges) + 1)
    return Bins(edges.tolist(), low.tolist(), high.tolist())


@given(some.integers(0, 2**32))
def test_interval_contains_the_price_and_is_the_same_alone_and_among_others(trained: Trained, seed: int) -> None:
    draw = np.random.default_rng(seed)
    intervals = Intervals([random_bins(draw) for _ in range(GROUPS)])
    rows = draw.integers(0, len(trained.matrix), 40)
    features = trained.matrix[rows].copy()
    features[draw.random(features.shape) < 0.1] = np.nan
    features[draw.random(features.shape) < 0.1] = 0
    prices = np.exp(draw.uniform(0, 18, len(rows)))
    on_edges = [edge for bins in intervals.groups for edge in bins.edges][:20]
    prices[: len(on_edges)] = on_edges
    low, high = intervals.of_many(features, prices)
    assert (low <= prices).all()
    assert (prices <= high).all()
    together = list(zip(low.tolist(), high.tolist(), strict=True))
    for matrix_rows in (features.tolist(), features):
        assert [
            intervals.of_one(row, price) for row, price in zip(matrix_rows, prices.tolist(), strict=True)
        ] == together
    assert Intervals.from_json(intervals.to_json()) == intervals


def test_no_rows_have_no_intervals(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    estimated = bundle.estimate(parse_listings([]))
    assert estimated.to_json() == {"prices": [], "low": [], "high": []}


@pytest.mark.parametrize("place", range(KNOWN["place"]))
@pytest.mark.parametrize(
    ("unknown", "others"),
    [
        ((), (1, 2, 1, 1, 1)),
        (("house_size",), (0, 2, 1, 1, 1)),
        (("bed",), (1, 1, 1, 1, 1)),
        (("bath",), (1, 1, 1, 1, 1)),
        (("bed", "bath", "acre_lot"), (1, 0, 0, 1, 1)),
        (("prev_sold_date", "house_size"), (0, 2, 1, 0, 1)),
        (("bed", "bath", "acre_lot", "house_size", "prev_sold_date"), (0, 0, 0, 0, 1)),
        (("status", "brokered_by"), (1, 2, 1, 1, 0)),
    ],
    ids=str,
)
def test_group_depends_on_the_known_fields(
    trained: Trained, place: int, unknown: tuple[str, ...], others: tuple[int, ...]
) -> None:
    encodings = load_bundle(trained.folder).encodings
    raw = trained.rows.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in (*MISSING[place], *unknown))
    features = build_features(raw, encodings)
    is_known = ~np.isnan(features[:, [3, 0, 1, 2, 7, 9]])  # errors count as unknown
    size, bed, bath, lot, sale, status = is_known.T.astype(int)
    whole = is_known.sum(axis=1) == len(is_known.T) - sum(name in SIZES for name in unknown)
    assert whole.mean() > 0.9
    answers = np.stack(np.unravel_index(knowledge_of_many(features), tuple(KNOWN.values()), order="F"))
    assert (answers == np.stack([np.full(len(raw), place), size, bed + bath, lot, sale, status])).all()
    assert ((place, *others) == answers[:, whole].T).all()
    assert [knowledge(row) for row in features.tolist()] == knowledge_of_many(features).tolist()


def test_unseen_place_counts_as_unknown(trained: Trained) -> None:
    encodings = load_bundle(trained.folder).encodings
    listing = trained.rows.row(0, named=True)
    for change, place in (
        ({"zip_code": 99_998}, 2),
        ({"city": "Nowhere"}, 3),  # the city of the zip code is used
        ({"city": "Nowhere", "zip_code": None}, 1),
        ({"state": "Nowhere"}, 3),
        ({"state": "Nowhere", "zip_code": None}, 0),
        ({"state": "Nowhere", "city": None, "zip_code": None}, 0),
        ({"state": None, "city": None}, 3),
        ({}, 3),
    ):
        features = build_features(parse_listings([listing | change]), encodings)
        assert knowledge_of_many(features) % KNOWN["place"] == [place], change


@pytest.mark.parametrize(
    "unknown", [*MISSING, *((field,) for field in FIELDS), ("house_size", "zip_code"), ("bed", "bath")]
)
def test_masked_columns_are_those_of_listings_without_the_field(trained: Trained, unknown: tuple[str, ...]) -> None:
    encodings = load_bundle(trained.folder).encodings
    raw = trained.rows.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)
    whole = Columns.of(trained.rows)
    before, expected = matrix(whole, encodings), build_features(raw, encodings)
    some = np.arange(len(before)) % 3 == 0
    for columns in (whole, whole.learned(encodings)):
        masked = matrix(columns.without(dict.fromkeys(unknown, True)), encodings)
        assert np.array_equal(masked, expected, equal_nan=True)
        partly = matrix(columns.without(dict.fromkeys(unknown, some)), encodings)
        assert np.array_equal(partly, np.where(some[:, None], expected, before), equal_nan=True)
        assert np.array_equal(matrix(columns, encodings), before, equal_nan=True), "masking must not change the columns"


def test_fields_are_all_inputs_of_the_features(trained: Trained) -> None:
    assert set(FIELDS) == set(RAW_SCHEMA) - {"price", "street"}
    encodings = load_bundle(trained.folder).encodings
    whole = build_features(trained.rows, encodings)
    for field in set(RAW_SCHEMA) - set(FIELDS):
        raw = trained.rows.with_columns(pl.lit(None, RAW_SCHEMA[field]).alias(field))
        assert np.array_equal(build_features(raw, encodings), whole, equal_nan=True), field
