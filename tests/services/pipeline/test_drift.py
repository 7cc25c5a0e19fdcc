"""Profiles add up, and PSI and KS follow their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import ks_2samp

from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from pipeline.decision.drift import (
    BINS,
    CATEGORIES,
    MISSING,
    PLACES,
    Shift,
    add,
    bin_names,
    describe,
    errors_by_value,
    labels,
    profile,
    psi,
    rows_of,
    shifts,
    values_of,
)

Shares = some.lists(some.integers(0, 1000), min_size=4, max_size=4).filter(any).map(lambda n: np.array(n) / sum(n))


def shift(column: str, before: pl.DataFrame, now: pl.DataFrame) -> Shift:
    result = shifts(profile(labels(before)), profile(labels(now)))
    return next(each for each in result if each.column == column)


def test_every_row_is_in_one_bin_of_every_column(listings: pl.DataFrame) -> None:
    profiled = profile(labels(pl.concat([listings, parse_listings([{}, {"price": float("inf"), "bed": -1}])])))
    assert set(profiled["column"].to_list()) == {*BINS, *CATEGORIES, *PLACES}
    for column in (*BINS, *CATEGORIES, *PLACES):
        assert sum(values_of(profiled, column).values()) == rows_of(profiled) == listings.height + 2, column
    for column in BINS:
        assert set(values_of(profiled, column)) <= set(bin_names(column))
        assert len(set(bin_names(column))) == len(bin_names(column)), f"two bins of {column} have one name"


def test_bins_include_their_lower_edge(listings: pl.DataFrame) -> None:
    result = labels(parse_listings([{"house_size": size} for size in (499, 500, 1499, 1500, 10_000, None)]))
    expected = ["under 500", "500 to 750", "1,250 to 1,500", "1,500 to 1,750", "from 10,000", MISSING]
    assert result["house_size"].to_list() == expected


@given(some.lists(some.integers(0, 2303), max_size=3))
def test_profile_of_all_is_the_sum_of_the_parts(listings: pl.DataFrame, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), listings.height]
    parts = [profile(labels(listings[a:b])) for a, b in pairwise(ends)]
    assert add(parts).equals(profile(labels(listings)))


@given(Shares, Shares)
def test_psi_is_symmetric_and_zero_only_for_equal_shares(one: np.ndarray, other: np.ndarray) -> None:
    assert psi(one, other) == pytest.approx(psi(other, one))
    assert psi(one, one) == 0
    assert psi(one, other) >= 0
    assert (psi(one, other) < 1e-12) == np.allclose(np.maximum(one, 1e-4), np.maximum(other, 1e-4))


def test_psi_follows_its_definition() -> None:
    assert psi(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))


def test_ks_is_the_statistic_of_the_binned_rows(listings: pl.DataFrame) -> None:
    before, now = listings.filter(pl.col("bed") <= 3), listings
    place = {name: at for at, name in enumerate(bin_names("house_size"))}
    ranks = [labels(frame)["house_size"].replace_strict(place).to_numpy() for frame in (before, now)]
    assert shift("house_size", before, now).ks == pytest.approx(ks_2samp(*ranks).statistic)


def test_halves_of_one_sample_do_not_drift(listings: pl.DataFrame) -> None:
    mixed = listings.sample(fraction=1, shuffle=True, seed=3)
    half = mixed.height // 2
    for result in shifts(profile(labels(mixed[:half])), profile(labels(mixed[half:]))):
        assert (result.psi or 0) < 0.2, result
        assert (result.ks or 0) < 0.1, result


def test_new_bins_are_described_with_their_neighbours() -> None:
    before = parse_listings([{"house_size": 1500 + at} for at in range(1000)])
    now = parse_listings([{"house_size": 490 + at} for at in range(1010)])
    result = shift("house_size", before, now)
    assert result.is_new
    assert describe("house_size", result.grown) == "listings under 1,500 square feet"
    assert result.ks == pytest.approx(1, abs=0.01)


def test_category_that_grew_is_not_new() -> None:
    before = parse_listings([{"state": "Utah"}] * 90 + [{"state": "Ohio"}] * 10)
    now = parse_listings([{"state": "Utah"}] * 50 + [{"state": "Ohio"}] * 50)
    result = shift("state", before, now)
    assert (result.is_new, result.grown) == (False, ["Ohio"])
    assert result.shares["Ohio"] == (0.1, 0.5)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("house_size", ["under 500", "500 to 750"], "listings under 750 square feet"),
        ("house_size", ["500 to 750", "1,000 to 1,250"], ("listings of 500 to 750 square feet or of 1,000 to 1,250 "
                                                         "square feet")),
        ("price", ["2,000,000 to 5,000,000", "from 5,000,000"], "listings from 2,000,000 dollars"),
        ("bed", ["1"], "listings of 1 bedroom"),
        ("bed", ["1", "2", "3"], "listings of 1 to 3 bedrooms"),
        ("bath", ["8 to 11", MISSING], "listings of 8 to 11 bathrooms or without bath"),
        ("year of the last sale", ["2010 to 2015"], "listings of 2010 to 2015 as year of the last sale"),
        ("status", ["sold"], "listings with status sold"),
        ("state", ["Ohio", "Utah"], "listings in Ohio, Utah"),
    ],
)  # fmt: skip
def test_bins_are_described_in_words(column: str, values: list[str], words: str) -> None:
    assert describe(column, values) == words


def test_places_without_reference_rows_are_unseen() -> None:
    before = parse_listings([{"city": "A", "state": "Utah", "zip_code": 1.0}])
    now = parse_listings(
        [{"city": "A", "state": "Ohio", "zip_code": 1.0}, {"city": "A", "state": "Utah", "zip_code": "0002"}, {}]
    )
    assert shift("city", before, now).unseen == pytest.approx(1 / 3), "the same name in another state is another city"
    assert shift("zip_code", before, now).unseen == pytest.approx(1 / 3)
    assert shift("state", before, now).unseen == pytest.approx(1 / 3), "a missing value is not unseen"


def test_errors_per_value_are_means_over_their_rows(listings: pl.DataFrame) -> None:
    error = np.arange(listings.height, dtype=np.float64)
    result = errors_by_value(labels(listings), error)
    for column in (*BINS, *CATEGORIES):
        parts = [part for part in result if part["column"] == column]
        assert sum(part["rows"] for part in parts) == listings.height
        assert sum(part["rows"] * part["mae"] for part in parts) == pytest.approx(error.sum())


def test_empty_batch_has_an_empty_profile() -> None:
    empty = profile(labels(pl.DataFrame(schema=RAW_SCHEMA)))
    assert rows_of(empty) == 0
    assert all((result.psi or 0) >= 0 for result in shifts(empty, empty))
