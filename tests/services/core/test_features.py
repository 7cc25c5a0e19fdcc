"""One definition of features: whatever the spelling, alone or among others, in training as in serving."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import core.features
from core.features import (
    ENCODED,
    FEATURES,
    FINGERPRINT,
    NUMERIC,
    RAW_SCHEMA,
    build_features,
    conform,
    fit_encodings,
    parse_listings,
    training_features,
)
from datasource import synthetic

ROWS = synthetic.generate(0, seed=7, scale=0.01)[0]
ENCODINGS = fit_encodings(ROWS)
TEXT = [name for name, kind in RAW_SCHEMA.items() if kind == pl.String()]
NUMBERS = [name for name in RAW_SCHEMA if name not in TEXT]

number = some.none() | some.integers(-(2**70), 2**70) | some.floats(allow_nan=False)
numeric = number | number.map(str) | some.sampled_from(["01001", " 7 ", "", "many", "1e400", "nan"])
text = some.none() | some.text(some.characters(codec="utf-8"), max_size=8) | some.sampled_from([" Agawam ", "sold"])
date = some.none() | some.sampled_from(["2012-10-12", "2012-10-12T23:00:00Z", "1910-01-01", "soon", "2012-02-31", ""])
listing = some.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NUMBERS, numeric)
    | {name: text | some.integers(0, 9) for name in TEXT}
    | {"prev_sold_date": date},
)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the bit; NaN counts as equal to NaN."""
    return left.shape == right.shape and left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)


@pytest.mark.parametrize(
    ("field", "spelling", "meaning"),
    [
        ("bed", 3, 3.0),
        ("bed", "3", 3.0),
        ("bed", " 3.0 ", 3.0),
        ("zip_code", "01001", 1001.0),
        ("zip_code", 1001, 1001.0),
        ("city", 7, "7"),
        ("city", " Agawam ", " Agawam "),
        ("price", "many", None),
        ("price", [1], None),
        ("price", 10**400, float("inf")),
    ],
)
@pytest.mark.parametrize("among", [[], [{"price": "many", "bed": "x", "zip_code": "x", "city": 1}], [{}]])
def test_spelling_means_the_same_alone_and_among_others(
    field: str, spelling: Any, meaning: Any, among: list[dict[str, Any]]
) -> None:
    assert parse_listings([{field: spelling}, *among])[field][0] == meaning


def test_other_spellings_of_the_same_listings_parse_equal() -> None:
    records = ROWS.head(50).to_dicts()
    parsed = parse_listings(records)
    assert parsed.equals(ROWS.head(50)), "the service's own spelling is taken as it is"

    def respelt(row: dict[str, Any]) -> dict[str, Any]:
        whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in row.items()}
        whole |= {"zip_code": f"{int(row['zip_code']):05}", "colour": "red"}
        return dict(reversed(whole.items()))

    assert parse_listings([respelt(row) for row in records]).equals(parsed)
    assert conform(pl.DataFrame([respelt(row) for row in records])).equals(parsed)


def test_missing_fields_are_unknown() -> None:
    parsed = parse_listings([{}, {"bed": 3}])
    assert dict(parsed.schema) == RAW_SCHEMA
    assert parsed.to_dicts() == [dict.fromkeys(RAW_SCHEMA), dict.fromkeys(RAW_SCHEMA) | {"bed": 3.0}]
    assert conform(pl.DataFrame({"bed": [None, 3]})).equals(parsed)


@given(some.lists(listing, min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_rows_mean_the_same_alone_among_others_and_in_columns(records: list[dict[str, Any]]) -> None:
    together = parse_listings(records)
    assert dict(together.schema) == RAW_SCHEMA
    alone = [parse_listings([record]) for record in records]
    assert pl.concat(alone).equals(together)
    spelled = {name: [record.get(name) for record in records] for name in RAW_SCHEMA}
    as_text = pl.DataFrame(
        {name: [None if value is None else str(value) for value in values] for name, values in spelled.items()},
        schema=dict.fromkeys(RAW_SCHEMA, pl.String()),
    )
    assert conform(as_text).equals(together)
    matrix = build_features(together, ENCODINGS)
    assert matrix.shape == (len(records), len(FEATURES))
    for at, row in enumerate(alone):
        assert same(build_features(row, ENCODINGS), matrix[at : at + 1]), f"row {at} differs: {records[at]}"


@pytest.mark.parametrize(
    ("day", "years"),
    [
        ("2022-01-01", 365 / 365.25),
        ("2022-01-01T23:00:00Z", 365 / 365.25),
        ("2022-01-01 00:00:00", 365 / 365.25),
        ("1910-01-01", 41273 / 365.25),
        ("2012-02-31", np.nan),
        ("soon", np.nan),
        (None, np.nan),
    ],
)
def test_years_since_sale_count_back_from_one_day(day: str | None, years: float) -> None:
    row = build_features(parse_listings([{"prev_sold_date": day}]), ENCODINGS)[0]
    assert row[FEATURES.index("years_since_sale")] == pytest.approx(years, nan_ok=True)


def test_order_of_rows_is_the_order_of_the_matrix() -> None:
    order = np.random.default_rng(1).permutation(ROWS.height)
    assert same(build_features(ROWS[order], ENCODINGS), build_features(ROWS, ENCODINGS)[order])


def test_price_of_a_listing_is_not_needed_to_serve_it() -> None:
    served = parse_listings(ROWS.drop("price").to_dicts())
    assert same(build_features(served, ENCODINGS), build_features(ROWS, ENCODINGS))


def test_training_and_serving_build_the_same_matrix_for_unseen_rows() -> None:
    train, unseen = ROWS.head(500), ROWS.tail(200)
    unseen = unseen.with_columns(
        *(pl.when(pl.int_range(pl.len()) % 7 == at).then(None).otherwise(pl.col(name)).alias(name)
          for at, name in enumerate(("bed", "city", "state", "zip_code", "prev_sold_date"))),
    )  # fmt: skip
    _, learned = training_features(train, seed=7)
    assert learned == fit_encodings(train), "what is served with is learned from all training rows"
    trained_way = build_features(unseen, learned)
    served_way = build_features(parse_listings(unseen.drop("price").to_dicts()), learned)
    assert same(trained_way, served_way)
    assert np.isnan(trained_way).any(axis=0)[FEATURES.index("state_value")], "nulls must be among the rows"


@pytest.mark.parametrize("seed", [1, 7, 2025])
def test_own_price_never_reaches_own_features(seed: int) -> None:
    rows = ROWS.head(300)
    before, _ = training_features(rows, seed)
    for at in range(0, 300, 37):
        price = rows["price"].to_list()
        price[at] *= 1000
        after, _ = training_features(rows.with_columns(price=pl.Series(price)), seed)
        assert same(before[at], after[at]), f"the price of row {at} is in its features"
        assert not same(before, after), "the price of a row teaches others"


def test_training_features_are_the_same_every_time() -> None:
    assert same(training_features(ROWS, 7)[0], training_features(ROWS, 7)[0])


def test_new_category_is_unknown_and_never_fails() -> None:
    new = {"state": "Atlantis", "city": "Agawam", "zip_code": 99999, "brokered_by": -1, "status": "ready_to_build"}
    row = build_features(parse_listings([new | {"bed": 3}]), ENCODINGS)[0]
    assert row[FEATURES.index("bed")] == 3
    for name in ENCODED:
        assert np.isnan(row[FEATURES.index(f"{name}_value")]), f"{name} was never seen, yet has a value"


def test_city_counts_within_its_state() -> None:
    towns = ROWS.group_by("city").agg(pl.col("state").unique().sort()).filter(pl.col("state").list.len() > 1)
    city, states = towns.sort("city").row(0)
    here, there = build_features(parse_listings([{"city": city, "state": state} for state in states[:2]]), ENCODINGS)
    at = FEATURES.index("city_value")
    assert here[at] != there[at]


def test_rare_category_is_near_the_overall_mean_and_a_frequent_one_is_itself() -> None:
    frame = parse_listings([{"price": 100_000, "state": "A"}] * 5000 + [{"price": 1_000_000, "state": "B"}])
    learned = fit_encodings(frame)["state"]
    overall = np.log(frame["price"].to_numpy()).mean()
    assert abs(learned["A"] - np.log(100_000)) < 1e-3
    assert abs(learned["B"] - overall) < 0.1 * abs(np.log(1_000_000) - overall)


@pytest.mark.parametrize("change", ["DEFINITION = 2", "TARGET = 'cost'", "NUMERIC = ('bed', 'acre_lot')"])
def test_fingerprint_changes_with_the_definition(change: str) -> None:
    source = Path(core.features.__file__).read_text()
    name = change.split(" = ")[0]
    old = next(line for line in source.splitlines() if line.startswith(f"{name} = "))
    changed: dict[str, Any] = {"__name__": "changed"}
    exec(compile(source.replace(old, change, 1), "changed", "exec"), changed)  # noqa: S102 - our own source
    assert changed["FINGERPRINT"] != FINGERPRINT


def test_fingerprint_is_the_same_in_every_process() -> None:
    program = "from core.features import FINGERPRINT; print(FINGERPRINT)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == FINGERPRINT


def test_infinite_ratio_is_handled_the_same_in_training_and_serving() -> None:
    tiny = ROWS.head(400).with_columns(
        bed=pl.when(pl.int_range(pl.len()) % 5 == 0).then(1e-308).otherwise(pl.col("bed"))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix, learned = training_features(tiny, 7)
        served = build_features(tiny, learned)
    assert np.isinf(matrix[::5, FEATURES.index("size_per_bed")]).all()
    plain = slice(0, len(NUMERIC) + 3)
    assert same(matrix[:, plain], served[:, plain])

    seen: list[np.ndarray] = []

    def keep(predicted: np.ndarray, _: lightgbm.Dataset) -> tuple[str, float, bool]:
        seen[:] = [predicted.copy()]
        return "kept", 0.0, True

    data = lightgbm.Dataset(matrix, np.log(tiny["price"].to_numpy()), free_raw_data=False)
    parameters = {"objective": "regression", "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, data, 20, valid_sets=[data], feval=keep)
    assert np.allclose(booster.predict(matrix), seen[0], rtol=1e-12), "training saw another matrix than serving does"
