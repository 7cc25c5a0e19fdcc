"""Features do not depend on the spelling of a listing, on other listings, or on training or serving."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import core.features.columns
from core.features.columns import FEATURES, FINGERPRINT, PLAIN
from core.features.encodings import Encodings
from core.features.hashing import folds
from core.features.matrix import build_features, build_row
from core.features.training import fit_encodings, training_features
from core.listing.parsing import conform, parse_listings
from core.listing.schema import RAW_SCHEMA
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


near_limits = some.sampled_from(
    [-1.0, -0.0, 0.0, 0.5, 0.99, 1.0, 11.99, 12.0, 12.5, 50.0, 50.01, 99.9, 100.0, 1e3, 1000.5, 99_999.0, 1e5,
     100_000.5, 5e-324, 1e-30, 1e30, 1e300, -1e300, float("inf"), float("nan")]
)  # fmt: skip
real_row = some.sampled_from(ROWS.to_dicts())
dirt = some.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NUMBERS, some.none() | near_limits | some.floats())
    | dict.fromkeys(TEXT, text)
    | {"prev_sold_date": date},
)


def alone_row(row: dict[str, Any]) -> np.ndarray:
    """Features of one listing, built without a frame."""
    return np.array(build_row(row, ENCODINGS), dtype=np.float32)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Bit-identical; NaN equals NaN."""
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
def test_spelling_has_the_same_meaning_alone_and_among_others(
    field: str, spelling: Any, meaning: Any, among: list[dict[str, Any]]
) -> None:
    assert parse_listings([{field: spelling}, *among])[field][0] == meaning


def test_other_spellings_of_a_listing_parse_equal() -> None:
    records = ROWS.head(50).to_dicts()
    parsed = parse_listings(records)
    assert parsed.equals(ROWS.head(50)), "the spelling of the data API must not change"

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
@settings(max_examples=200)
def test_rows_have_the_same_meaning_alone_among_others_and_in_columns(records: list[dict[str, Any]]) -> None:
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
        assert same(alone_row(row.row(0, named=True)), matrix[at]), f"row {at} differs without a frame: {records[at]}"


@given(real_row, dirt)
@settings(max_examples=500)
def test_build_row_is_bit_identical_to_build_features(row: dict[str, Any], change: dict[str, Any]) -> None:
    """Floats and arrays share the formulas, but they could round differently."""
    changed = row | change
    assert same(alone_row(changed), build_features(parse_listings([changed]), ENCODINGS)[0])
    left_out = {name: value for name, value in changed.items() if value is not None}
    assert same(alone_row(left_out), alone_row(changed))


def test_build_row_of_every_training_row_is_its_row_of_the_matrix() -> None:
    matrix = build_features(ROWS, ENCODINGS)
    assert same(np.stack([alone_row(row) for row in ROWS.to_dicts()]), matrix)


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


def test_matrix_keeps_the_order_of_the_rows() -> None:
    order = np.random.default_rng(1).permutation(ROWS.height)
    assert same(build_features(ROWS[order], ENCODINGS), build_features(ROWS, ENCODINGS)[order])


def test_serving_does_not_need_the_price() -> None:
    served = parse_listings(ROWS.drop("price").to_dicts())
    assert same(build_features(served, ENCODINGS), build_features(ROWS, ENCODINGS))


def test_training_and_serving_build_the_same_matrix_for_unseen_rows() -> None:
    train, unseen = ROWS.head(500), ROWS.tail(200)
    unseen = unseen.with_columns(
        *(pl.when(pl.int_range(pl.len()) % 7 == at).then(None).otherwise(pl.col(name)).alias(name)
          for at, name in enumerate(("bed", "city", "state", "zip_code", "prev_sold_date"))),
    )  # fmt: skip
    _, learned = training_features(train)
    assert learned.to_json() == fit_encodings(train).to_json(), (
        "the encodings for serving must be fitted on all training rows"
    )
    trained_way = build_features(unseen, learned)
    served_way = build_features(parse_listings(unseen.drop("price").to_dicts()), learned)
    assert same(trained_way, served_way)
    assert np.isnan(trained_way).any(axis=0)[FEATURES.index("bed")], "the rows must include nulls"


def test_own_price_never_reaches_own_features() -> None:
    rows = ROWS.head(300)
    before, _ = training_features(rows)
    for at in range(0, 300, 37):
        price = rows["price"].to_list()
        price[at] *= 1000
        after, _ = training_features(rows.with_columns(price=pl.Series(price)))
        assert same(before[at], after[at]), f"the price of row {at} is in its features"
        assert not same(before, after), "the price of a row must reach the features of other rows"


def test_fold_depends_on_the_listing_only() -> None:
    fold = folds(ROWS)
    order = np.random.default_rng(1).permutation(ROWS.height)
    assert np.array_equal(folds(ROWS[order]), fold[order]), "the position of a listing must not matter"
    again = ROWS.with_columns(price=pl.col("price") * 2, status=pl.lit("sold"), brokered_by=pl.lit(1.0))
    assert np.array_equal(folds(again), fold), "a repeated listing must be in the same fold"
    assert np.bincount(fold).min() > 0.8 * ROWS.height / 5


def test_training_features_are_deterministic() -> None:
    assert same(training_features(ROWS)[0], training_features(ROWS)[0])


def test_unseen_category_is_valued_like_the_place_around_it() -> None:
    listing = ROWS.row(0, named=True)
    new = {"city": "Nowhere", "zip_code": 99_998, "brokered_by": -1, "status": "ready_to_build"}
    row = named(listing | new)
    assert row["zip_premium"] == row["city_premium"] == row["state_premium"] != 0
    assert row["city_rows"] == row["zip_rows"] == row["broker_premium"] == row["broker_rows"] == 0
    assert np.isnan(row["status"])
    other = named(new | {"state": "Atlantis"})
    assert other["zip_premium"] == other["state_premium"] == 0
    assert np.isfinite(other["hedonic"])


@pytest.mark.parametrize(
    ("dirt", "unknown"),
    [
        ({"bed": 444.0}, {"bed", "size_per_room", "bath_per_bed"}),
        ({"bed": 0.0}, {"bath_per_bed"}),
        ({"bath": 222.0}, {"bath", "size_per_room", "bath_per_bed"}),
        ({"acre_lot": 100_000.0}, {"acre_lot", "lot_coverage"}),
        ({"acre_lot": 0.0}, set()),
        ({"house_size": 1_560_780.0}, {"house_size", "size_per_room", "lot_coverage"}),
        ({"house_size": -1.0}, {"house_size", "size_per_room", "lot_coverage"}),
        ({"house_size": 1e308}, {"house_size", "size_per_room", "lot_coverage"}),
        ({"zip_code": 1e9}, {"zip_code"}),
        ({"prev_sold_date": "1910-01-01"}, set()),
        ({"prev_sold_date": None}, {"years_since_sale"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),  # the order of a set is random
)
def test_erroneous_value_counts_as_unknown_and_moves_the_price_little(dirt: dict[str, Any], unknown: set[str]) -> None:
    clean = {"status": "for_sale", "bed": 3.0, "bath": 2.0, "acre_lot": 0.3, "house_size": 1700.0, "zip_code": 501.0,
             "prev_sold_date": "2012-10-12"}  # fmt: skip
    row = named(clean | dirt)
    assert {name for name, value in row.items() if np.isnan(value)} == unknown
    assert abs(row["hedonic"] - named(clean)["hedonic"]) < 1, "an erroneous value moves the price too much"


def test_unknown_place_is_replaced_by_the_one_around_the_narrower_place() -> None:
    zips = ROWS.group_by("zip_code").agg(pl.col("city", "state").mode().first(), pl.col("city").n_unique().alias("of"))
    listing = zips.filter(pl.col("of") == 1).sort("zip_code").select("zip_code", "city", "state").row(3, named=True)
    places = ("state_premium", "city_premium", "zip_premium", "city_rows", "zip_rows", "hedonic")
    whole = named(listing)
    for change in ({"city": None}, {"state": None}, {"city": None, "state": None}, {"city": "Spelled otherwise"}):
        row = named(listing | change)
        assert [row[name] for name in places] == [whole[name] for name in places], change
    narrowest = named({"zip_code": listing["zip_code"]})
    assert narrowest["zip_premium"] == whole["zip_premium"] != 0
    assert named({"city": listing["city"]})["city_rows"] == 0, "several states have a city of that name"


def test_place_belongs_to_the_wider_place_of_most_of_its_rows() -> None:
    towns = [("A", "Often")] * 3 + [("B", "Rarely")] * 2 + [(None, None)] * 9
    rows = [{"price": 100_000, "zip_code": 501, "state": state, "city": city, "street": at}
            for at, (state, city) in enumerate(towns)]  # fmt: skip
    learned = fit_encodings(parse_listings(rows))
    cities, states = (list(learned.tables[name].index) for name in ("city", "state"))
    assert cities[learned.within["zip_code"][0]] == "Often, A"
    assert [states[at] for at in learned.within["city"][:-1]] == ["A", "B"]
    assert Encodings.from_json(learned.to_json()).to_json() == learned.to_json()
    for wrong in ([99], [-1], [], [0, 0]):
        with pytest.raises(ValueError, match="place"):
            Encodings.from_json(learned.to_json() | {"within": learned.to_json()["within"] | {"zip_code": wrong}})


def test_city_counts_within_its_state() -> None:
    towns = ROWS.group_by("city").agg(pl.col("state").unique().sort()).filter(pl.col("state").list.len() > 1)
    city, states = towns.sort("city").row(0)
    here, there = (named({"city": city, "state": state}) for state in states[:2])
    assert here["city_premium"] - here["state_premium"] != there["city_premium"] - there["state_premium"]


def test_premium_of_a_place_does_not_include_its_houses() -> None:
    draw = np.random.default_rng(3)
    large = draw.random(4000) < 0.5
    size = np.where(large, 3000, 1000) * draw.uniform(0.7, 1.4, 4000)
    place = np.where(
        draw.random(4000) < np.where(large, 0.8, 0.2), "Suburb", "Downtown"
    )  # most large houses are in the suburb
    price = 300 * size * np.where(place == "Downtown", 1.3, 1.0) * np.exp(0.1 * draw.normal(size=4000))
    columns = {"price": price, "house_size": size, "state": ["A"] * 4000, "city": place, "street": np.arange(4000)}
    learned = fit_encodings(conform(pl.DataFrame(columns))).tables["city"]
    premium = {city: learned.effect[at] for city, at in learned.index.items()}
    assert premium["Downtown, A"] - premium["Suburb, A"] == pytest.approx(np.log(1.3), abs=0.02)
    mean = {city: np.log(price[place == city]).mean() for city in ("Downtown", "Suburb")}
    assert mean["Downtown"] < mean["Suburb"], "a mean of prices would have the opposite sign"


def test_effect_of_a_rare_category_shrinks_and_that_of_a_frequent_one_does_not() -> None:
    draw = np.random.default_rng(4)
    towns = [("Often", 400, 2.0), ("Elsewhere", 400, 1.0), ("Once", 1, 20.0)]
    rows = [
        {"price": 100_000 * factor * float(np.exp(0.3 * draw.normal())), "state": "A", "city": city, "street": at}
        for city, count, factor in towns
        for at in range(count)
    ]
    learned = fit_encodings(parse_listings(rows)).tables["city"]
    effect = {city: learned.effect[at] for city, at in learned.index.items()}
    apart = effect["Often, A"] - effect["Elsewhere, A"]
    assert apart == pytest.approx(np.log(2), abs=0.06)
    assert abs(effect["Once, A"]) < 0.4 * np.log(20), "one price may be a typing error"


def named(listing: dict[str, Any]) -> dict[str, float]:
    """Features of one listing, by name."""
    row = build_features(parse_listings([listing]), ENCODINGS)[0]
    return dict(zip(FEATURES, row.tolist(), strict=True))


@pytest.mark.parametrize("change", ["DEFINITION = 0", "TARGET = 'cost'", "NUMERIC = ('bed', 'acre_lot')"])
def test_fingerprint_changes_with_the_definition(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(core.features.columns.__file__).read_text()
    name = change.split(" = ")[0]
    old = next(line for line in source.splitlines() if line.startswith(f"{name} = "))
    changed = ModuleType("changed")
    monkeypatch.setitem(sys.modules, "changed", changed)
    exec(compile(source.replace(old, change, 1), "changed", "exec"), changed.__dict__)  # noqa: S102 - source of this repository
    assert changed.FINGERPRINT != FINGERPRINT


def test_fingerprint_is_the_same_in_every_process() -> None:
    program = "from core.features.columns import FINGERPRINT; print(FINGERPRINT)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == FINGERPRINT


def test_training_uses_the_same_matrix_as_serving() -> None:
    rows = ROWS.head(400).with_columns(
        bed=pl.when(pl.int_range(pl.len()) % 5 == 0).then(None).otherwise(pl.col("bed")),
        status=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("status")),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix, learned = training_features(rows)
        served = build_features(rows, learned)
    assert same(matrix[:, : len(PLAIN)], served[:, : len(PLAIN)])

    seen: list[np.ndarray] = []

    def keep(predicted: np.ndarray, _: lightgbm.Dataset) -> tuple[str, float, bool]:
        seen[:] = [predicted.copy()]
        return "kept", 0.0, True

    data = lightgbm.Dataset(matrix, np.log(rows["price"].to_numpy()), free_raw_data=False, categorical_feature=[9])
    parameters = {"objective": "regression", "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, data, 20, valid_sets=[data], feval=keep)
    assert np.allclose(booster.predict(matrix), seen[0], rtol=1e-12), "training used another matrix than serving"
