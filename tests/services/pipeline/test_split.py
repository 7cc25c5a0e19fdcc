"""A listing belongs to one split for ever, whatever comes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.features import RAW_SCHEMA, parse_listings
from pipeline import rows
from pipeline import split as stage
from pipeline.rows import SPLITS
from pipeline.split import split

from .conftest import StageContext


def where(listings: pl.DataFrame) -> dict[float, str]:
    """The split of each listing, by its street (which is its own)."""
    return {street: name for name, part in split(listings).items() for street in part["street"]}


@pytest.fixture(scope="module")
def own(listings: pl.DataFrame) -> pl.DataFrame:
    """Listings with a street of their own."""
    return listings.with_columns(street=pl.int_range(pl.len()).cast(pl.Float64))


def test_every_row_is_in_one_split_in_its_order(own: pl.DataFrame) -> None:
    parts = split(own)
    assert tuple(parts) == SPLITS
    assert pl.concat(parts.values()).sort("street").equals(own)
    for name, part in parts.items():
        assert part["street"].is_sorted(), f"{name} is in another order than its rows came"


def test_shares_are_about_70_15_15(own: pl.DataFrame) -> None:
    shares = [part.height / own.height for part in split(own).values()]
    assert np.allclose(shares, [0.70, 0.15, 0.15], atol=0.02), shares


@given(some.integers(0, 2**32), some.integers(1, 2000))
@settings(max_examples=20)
def test_order_and_company_of_rows_do_not_matter(own: pl.DataFrame, seed: int, rows: int) -> None:
    order = np.random.default_rng(seed).permutation(own.height).tolist()
    known = where(own)
    assert where(own[order[:rows]]) == {own["street"][at]: known[own["street"][at]] for at in order[:rows]}


def test_same_listing_at_another_price_of_another_broker_stays_in_its_split(own: pl.DataFrame) -> None:
    again = own.with_columns(price=pl.col("price") * 2, status=pl.lit("sold"), brokered_by=pl.lit(1.0))
    assert where(again) == where(own)


def test_null_fields_are_part_of_what_a_listing_is() -> None:
    some_nulls = parse_listings([{"street": at, "city": None, "bed": None} for at in range(500)])
    parts = split(some_nulls)
    assert all(part.height for part in parts.values())


def test_splits_are_those_of_earlier_releases() -> None:
    """What was held out once must never be trained on: change the hash, and every stored holdout leaks."""
    home = {"city": "Agawam", "state": "Massachusetts", "zip_code": 1001, "bed": 3}
    told = where(parse_listings([home | {"street": at} for at in range(24)]))
    pinned = {"r": "train", "a": "validation", "e": "test"}
    for at, letter in enumerate("arerrrraraerrerrrrrrrrrr"):
        assert told[at] == pinned[letter], f"the listing in street {at} was in {pinned[letter]} before"


@pytest.mark.parametrize("count", [0, 1])
def test_splits_of_next_to_nothing_have_the_schema(own: pl.DataFrame, count: int) -> None:
    parts = split(own.select(RAW_SCHEMA.keys()).head(count))
    assert sum(part.height for part in parts.values()) == count
    assert all(dict(part.schema) == RAW_SCHEMA for part in parts.values())


def test_stage_stores_valid_rows_only_and_the_same_bytes_again(own: pl.DataFrame, tmp_path: Path) -> None:
    bad = own.head(10).with_columns(price=pl.lit(1.0), street=pl.col("street") + 1e6)
    context = StageContext(tmp_path, pl.concat([own, bad]))
    first = stage.run(context, 0)  # type: ignore[arg-type]
    stored = {key: context.store.get(key) for key in context.store.keys("clean/")}
    assert sorted(stored) == sorted(rows.clean_key(0, name) for name in SPLITS)
    clean = own.filter(pl.col("price") >= 1_000)
    assert sum(first["splits"].values()) == clean.height
    assert stage.run(context, 0) == first  # type: ignore[arg-type]
    assert {key: context.store.get(key) for key in context.store.keys("clean/")} == stored
