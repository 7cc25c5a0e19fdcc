"""Profiles add up, and the distances between them are the field's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import ks_2samp

from core.features import RAW_SCHEMA, parse_listings
from pipeline.drift import (
    BINS,
    CATEGORIES,
    MISSING,
    PLACES,
    Shift,
    add,
    bins,
    errors_by_value,
    labels,
    profile,
    psi,
    rows_of,
    shifts,
    told,
    values_of,
)

Shares = some.lists(some.integers(0, 1000), min_size=4, max_size=4).filter(any).map(lambda n: np.array(n) / sum(n))


def shift(column: str, before: pl.DataFrame, now: pl.DataFrame) -> Shift:
    found = shifts(profile(labels(before)), profile(labels(now)))
    return next(each for each in found if each.column == column)


def test_every_row_is_in_one_bin_of_every_column(listings: pl.DataFrame) -> None:
    known = profile(labels(pl.concat([listings, parse_listings([{}, {"price": float("inf"), "bed": -1}])])))
    assert set(known["column"].to_list()) == {*BINS, *CATEGORIES, *PLACES}
    for column in (*BINS, *CATEGORIES, *PLACES):
        assert sum(values_of(known, column).values()) == rows_of(known) == listings.height + 2, column
    for column in BINS:
        assert set(values_of(known, column)) <= set(bins(column))
        assert len(set(bins(column))) == len(bins(column)), f"two bins of {column} have one name"


def test_bins_take_their_lower_end(listings: pl.DataFrame) -> None:
    found = labels(parse_listings([{"house_size": size} for size in (499, 500, 1499, 1500, 10_000, None)]))
    expected = ["under 500", "500 to 750", "1,250 to 1,500", "1,500 to 1,750", "from 10,000", MISSING]
    assert found["house_size"].to_list() == expected


@given(some.lists(some.integers(0, 2303), max_size=3))
def test_profile_of_all_is_the_sum_of_the_parts(listings: pl.DataFrame, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), listings.height]
    parts = [profile(labels(listings[a:b])) for a, b in pairwise(ends)]
    assert add(parts).equals(profile(labels(listings)))


@given(Shares, Shares)
def test_psi_is_a_distance_that_is_nothing_only_between_equals(one: np.ndarray, other: np.ndarray) -> None:
    assert psi(one, other) == pytest.approx(psi(other, one))
    assert psi(one, one) == 0
    assert psi(one, other) >= 0
    assert (psi(one, other) < 1e-12) == np.allclose(np.maximum(one, 1e-4), np.maximum(other, 1e-4))


def test_psi_is_the_sum_that_the_field_knows() -> None:
    assert psi(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))


def test_ks_is_the_statistic_of_the_binned_rows(listings: pl.DataFrame) -> None:
    before, now = listings.filter(pl.col("bed") <= 3), listings
    place = {name: at for at, name in enumerate(bins("house_size"))}
    ranks = [labels(frame)["house_size"].replace_strict(place).to_numpy() for frame in (before, now)]
    assert shift("house_size", before, now).ks == pytest.approx(ks_2samp(*ranks).statistic)


def test_halves_of_one_sample_are_alike(listings: pl.DataFrame) -> None:
    mixed = listings.sample(fraction=1, shuffle=True, seed=3)
    half = mixed.height // 2
    for found in shifts(profile(labels(mixed[:half])), profile(labels(mixed[half:]))):
        assert (found.psi or 0) < 0.2, found
        assert (found.ks or 0) < 0.1, found


def test_what_is_new_is_named_with_its_neighbours() -> None:
    before = parse_listings([{"house_size": 1500 + at} for at in range(1000)])
    now = parse_listings([{"house_size": 490 + at} for at in range(1010)])
    found = shift("house_size", before, now)
    assert found.is_new
    assert told("house_size", found.grown) == "listings under 1,500 square feet"
    assert found.ks == pytest.approx(1, abs=0.01)


def test_what_only_grew_is_told_as_such() -> None:
    before = parse_listings([{"state": "Utah"}] * 90 + [{"state": "Ohio"}] * 10)
    now = parse_listings([{"state": "Utah"}] * 50 + [{"state": "Ohio"}] * 50)
    found = shift("state", before, now)
    assert (found.is_new, found.grown) == (False, ["Ohio"])
    assert found.shares["Ohio"] == (0.1, 0.5)


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
def test_bins_in_words(column: str, values: list[str], words: str) -> None:
    assert told(column, values) == words


def test_places_that_the_reference_lacks_are_unseen() -> None:
    before = parse_listings([{"city": "A", "state": "Utah", "zip_code": 1.0}])
    now = parse_listings(
        [{"city": "A", "state": "Ohio", "zip_code": 1.0}, {"city": "A", "state": "Utah", "zip_code": "0002"}, {}]
    )
    assert shift("city", before, now).unseen == pytest.approx(1 / 3), "a city of that name in another state is another"
    assert shift("zip_code", before, now).unseen == pytest.approx(1 / 3)
    assert shift("state", before, now).unseen == pytest.approx(1 / 3), "what is missing is not unseen"


def test_errors_per_value_are_means_over_their_rows(listings: pl.DataFrame) -> None:
    error = np.arange(listings.height, dtype=np.float64)
    found = errors_by_value(labels(listings), error)
    for column in (*BINS, *CATEGORIES):
        parts = [part for part in found if part["column"] == column]
        assert sum(part["rows"] for part in parts) == listings.height
        assert sum(part["rows"] * part["mae"] for part in parts) == pytest.approx(error.sum())


def test_empty_batch_has_an_empty_profile() -> None:
    empty = profile(labels(pl.DataFrame(schema=RAW_SCHEMA)))
    assert rows_of(empty) == 0
    assert all((found.psi or 0) >= 0 for found in shifts(empty, empty))
