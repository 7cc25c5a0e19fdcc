"""A listing is always in the same split, whatever other rows come with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from core.stores import layout
from pipeline.rows import SPLITS
from pipeline.stages import split as stage
from pipeline.training.splits import split

from .conftest import StageContext


def where(listings: pl.DataFrame) -> dict[float, str]:
    """The split of each listing, by its street, which is unique."""
    return {street: name for name, part in split(listings).items() for street in part["street"]}


@pytest.fixture(scope="module")
def own(listings: pl.DataFrame) -> pl.DataFrame:
    """Listings with unique streets."""
    return listings.with_columns(street=pl.int_range(pl.len()).cast(pl.Float64))


def test_every_row_is_in_one_split_and_keeps_its_order(own: pl.DataFrame) -> None:
    parts = split(own)
    assert tuple(parts) == SPLITS
    assert pl.concat(parts.values()).sort("street").equals(own)
    for name, part in parts.items():
        assert part["street"].is_sorted(), f"{name} does not keep the order of its rows"


def test_shares_are_about_70_15_15(own: pl.DataFrame) -> None:
    shares = [part.height / own.height for part in split(own).values()]
    assert np.allclose(shares, [0.70, 0.15, 0.15], atol=0.02), shares


@given(some.integers(0, 2**32), some.integers(1, 2000))
@settings(max_examples=20)
def test_split_does_not_depend_on_the_other_rows(own: pl.DataFrame, seed: int, rows: int) -> None:
    order = np.random.default_rng(seed).permutation(own.height).tolist()
    expected = where(own)
    assert where(own[order[:rows]]) == {own["street"][at]: expected[own["street"][at]] for at in order[:rows]}


def test_listing_with_another_price_and_broker_stays_in_its_split(own: pl.DataFrame) -> None:
    again = own.with_columns(price=pl.col("price") * 2, status=pl.lit("sold"), brokered_by=pl.lit(1.0))
    assert where(again) == where(own)


def test_listings_with_null_fields_are_distributed() -> None:
    some_nulls = parse_listings([{"street": at, "city": None, "bed": None} for at in range(500)])
    parts = split(some_nulls)
    assert all(part.height for part in parts.values())


def test_splits_are_the_same_as_in_earlier_releases() -> None:
    """A row of the holdout must never be trained on. If the hash changes, every stored holdout leaks."""
    home = {"city": "Agawam", "state": "Massachusetts", "zip_code": 1001, "bed": 3}
    actual = where(parse_listings([home | {"street": at} for at in range(24)]))
    pinned = {"r": "train", "a": "validation", "e": "test"}
    for at, letter in enumerate("arerrrraraerrerrrrrrrrrr"):
        assert actual[at] == pinned[letter], f"the listing in street {at} was in {pinned[letter]} before"


@pytest.mark.parametrize("count", [0, 1])
def test_nearly_empty_splits_have_the_schema(own: pl.DataFrame, count: int) -> None:
    parts = split(own.select(RAW_SCHEMA.keys()).head(count))
    assert sum(part.height for part in parts.values()) == count
    assert all(dict(part.schema) == RAW_SCHEMA for part in parts.values())


def test_stage_stores_only_valid_rows_and_is_idempotent(own: pl.DataFrame, tmp_path: Path) -> None:
    bad = own.head(10).with_columns(price=pl.lit(1.0), street=pl.col("street") + 1e6)
    context = StageContext(tmp_path, pl.concat([own, bad]))
    first = stage.run(context, 0)  # type: ignore[arg-type]
    stored = {key: context.store.get(key) for key in context.store.keys("clean/")}
    assert sorted(stored) == sorted(layout.clean_key(0, name) for name in SPLITS)
    clean = own.filter(pl.col("price") >= 1_000)
    assert sum(first["splits"].values()) == clean.height
    assert stage.run(context, 0) == first  # type: ignore[arg-type]
    assert {key: context.store.get(key) for key in context.store.keys("clean/")} == stored
