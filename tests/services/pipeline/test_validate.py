"""Every row received is valid or quarantined with a rule, whatever it is; a changed schema is one sentence."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from core.errors import DataError
from core.features import RAW_SCHEMA, build_features, fit_encodings
from pipeline import drift, rows, validate
from pipeline.body import from_records
from pipeline.contract import BROKEN, IMPLAUSIBLE, Listing, Plausible
from pipeline.rules import implausible, judge, valid_rows

from .conftest import StageContext

GOOD: dict[str, Any] = {
    "brokered_by": 67455.0, "status": "for_sale", "price": 289900.0, "bed": 3.0, "bath": 2.0, "acre_lot": 0.36,
    "street": 1698080.0, "city": "Agawam", "state": "Massachusetts", "zip_code": 1001.0, "house_size": 1276.0,
    "prev_sold_date": "2012-10-12",
}  # fmt: skip
TEXT = [name for name, kind in RAW_SCHEMA.items() if kind == pl.String()]


def with_good(*bad: dict[str, Any]) -> pl.DataFrame:
    """Some rows among good ones, which all differ."""
    return from_records([{**GOOD, "street": float(at)} for at in range(20)] + [{**GOOD, **row} for row in bad])


def renamed(**names: str) -> pl.DataFrame:
    return from_records([{names.get(name, name): value for name, value in GOOD.items()}] * 20)


def first_release(**odd: str) -> pl.DataFrame:
    """Raw rows as the first release stored them: a column with anything odd in it is text."""
    return with_good({}).with_columns(pl.lit(value).alias(name) for name, value in odd.items())


value = some.one_of(
    some.none(),
    some.floats(allow_nan=False, allow_infinity=False),
    some.integers(-(2**63), 2**64 - 1),
    some.sampled_from([0, 1, 1.0, -1, 999.99, 1000, 1e308, True, "", "many", "01001", "1e400", "nan", "-inf"]),
    some.sampled_from([[], [1], {"a": 1}]),
    some.text(some.characters(codec="utf-8"), max_size=4),
)
dirty = some.fixed_dictionaries({}, optional={**dict.fromkeys(RAW_SCHEMA, value), "colour": value})


@given(some.lists(dirty, max_size=12), some.booleans())
@settings(max_examples=200)
@example([{"status": -1}, {"status": 2**63}], False)
def test_received_is_valid_and_quarantined_over_any_dirt(bad: list[dict[str, Any]], among_good: bool) -> None:
    raw = with_good(*bad) if among_good else from_records(bad or [{}])
    try:
        judged = judge(raw)
    except DataError:
        return  # the columns are not those of the contract
    assert judged.height == raw.height, "a row was dropped in silence"
    quarantined = judged.filter(pl.col("broken_rule").is_not_null())
    valid = valid_rows(raw)
    assert raw.height == valid.height + quarantined.height
    assert set(quarantined["broken_rule"]) <= set(BROKEN)
    assert dict(valid.schema) == RAW_SCHEMA
    assert all(math.isfinite(price) and price >= 1_000 for price in valid["price"])
    assert valid.is_unique().all()
    if valid.height:
        build_features(valid, fit_encodings(valid))


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"price": "a lot"}, "unreadable"),
        ({"bed": "three"}, "unreadable"),
        ({"bed": [3]}, "unreadable"),
        ({"price": None}, "price missing"),
        ({"price": "nan"}, "price missing"),
        ({"price": "1e400"}, "price missing"),
        ({"price": 1.0}, "price below 1,000"),
        ({"price": 999.99}, "price below 1,000"),
        ({"price": -5.0}, "price below 1,000"),
        ({"bed": -1.0}, "negative quantity"),
        ({"street": "nan"}, "infinite quantity"),
        ({"bath": "1e400"}, "infinite quantity"),
        ({"house_size": -0.5}, "negative quantity"),
        (dict.fromkeys(("bed", "bath", "acre_lot", "house_size", "city", "state")), "nothing known"),
        ({"street": 3.0}, "duplicate"),
    ],
)
def test_each_rule_names_itself(row: dict[str, Any], rule: str) -> None:
    judged = judge(with_good(row))
    assert judged["broken_rule"].to_list() == [None] * 20 + [rule]


def test_every_rule_is_tested_here() -> None:
    [cases] = [mark.args[1] for mark in test_each_rule_names_itself.pytestmark]  # type: ignore[attr-defined]
    assert {rule for _, rule in cases} == set(BROKEN)


@pytest.mark.parametrize(
    "row",
    [
        {"price": 1000.0},
        {"status": "ready_to_build"},
        {"state": "Puerto Rico", "city": "Atlantis"},
        {"zip_code": "01001"},
        {"bed": 444.0, "bath": 222.0, "acre_lot": 100000.0, "house_size": 1560780.0},
        {"prev_sold_date": None, "city": None, "brokered_by": None},
        {"price": 289901},
        {"colour": "red"},
    ],
)
def test_odd_rows_are_valid(row: dict[str, Any]) -> None:
    assert judge(with_good({**row, "street": 99.0}))["broken_rule"].to_list() == [None] * 21


def test_only_the_first_of_equal_rows_is_valid() -> None:
    assert judge(from_records([GOOD] * 3))["broken_rule"].to_list() == [None, "duplicate", "duplicate"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (renamed(price="precio", bed="beds"), "lacks price, bed; unknown ones are beds, precio"),
        (with_good().drop("state"), "lacks state: the data API's schema has changed"),
        (from_records([{**GOOD, "bed": "three"}] * 20), "20 of 20 values of bed are no Float64, such as 'three'"),
        (from_records([{**GOOD, "bath": [2]}]), "1 of 1 values of bath are no Float64, such as [2]"),
        (from_records([{}]), "lacks brokered_by, status, price"),
        (first_release(bath="two"), "21 of 21 values of bath are no Float64, such as 'two'"),
    ],
)
def test_changed_schema_is_one_sentence_that_names_the_columns(raw: pl.DataFrame, told: str) -> None:
    with pytest.raises(DataError) as changed:
        judge(raw)
    assert told in str(changed.value)
    assert "\n" not in str(changed.value)


def test_changed_schema_is_refused_in_the_ledger_so_that_the_next_run_goes_on(tmp_path: Path) -> None:
    context = StageContext(tmp_path, with_good().drop("state"))
    with pytest.raises(DataError, match="lacks state"):
        validate.run(context, 0)  # type: ignore[arg-type]
    assert context.ledger.told == {"refused": "the batch lacks state: the data API's schema has changed"}


def test_stage_counts_every_row_and_keeps_the_bad_ones_with_their_rule(tmp_path: Path) -> None:
    bad = ({"price": 1.0}, {"price": 2.0}, {"bed": "many"}, {"street": 3.0})
    context = StageContext(tmp_path, with_good(*bad))
    for _ in range(2):  # again, with the same result
        result = validate.run(context, 0)  # type: ignore[arg-type]
        told = [result[name] for name in ("rows", "valid", "quarantined", "duplicates")]
        assert told == [24, 20, 3, 1]
        assert result["rules"] == {"price below 1,000": 2, "unreadable": 1}
        assert context.ledger.told == {"valid": 20, "duplicates": 1, "quarantine": result["rules"]}
        kept = rows.read(context.store, rows.quarantine_key(0))
        assert kept["broken_rule"].to_list() == ["price below 1,000", "price below 1,000", "unreadable"]
    assert result["summary"].startswith("batch 0: 24 rows = 20 valid + 3 quarantined (2 price below 1,000, 1 ")


def test_batch_without_a_valid_row_is_refused_with_its_counts(tmp_path: Path) -> None:
    context = StageContext(tmp_path, from_records([{**GOOD, "price": 1.0}] * 3))
    told = "no row of batch 0 can be used: 3 rows = 0 valid + 3 quarantined (3 price below 1,000) + 0 duplicates"
    with pytest.raises(DataError) as refused:
        validate.run(context, 0)  # type: ignore[arg-type]
    assert context.ledger.told == {"refused": told} == {"refused": str(refused.value)}
    assert checks(context, 0)["schema"]["told"] == told


def checks(context: StageContext, batch: int) -> dict[str, dict[str, Any]]:
    """The checks of a stored report, whose page names each."""
    told = json.loads(context.store.get(rows.report_key(batch, "json")))
    page = context.store.get(rows.report_key(batch, "html")).decode()
    assert told["rows"] == told["valid"] + told["quarantined"] + told["duplicates"]
    assert told["quarantined"] == sum(told["rules"].values())
    for check in told["checks"]:
        assert escape(check["told"]) in page, f"the page does not tell: {check['told']}"
    return {check["name"]: check for check in told["checks"]}


def after(tmp_path: Path, first: pl.DataFrame, then: pl.DataFrame) -> tuple[StageContext, dict[str, dict[str, Any]]]:
    """Two batches in a row; gives the checks of the second."""
    context = StageContext(tmp_path, first)
    validate.run(context, 0)  # type: ignore[arg-type]
    context.add(1, then)
    validate.run(context, 1)  # type: ignore[arg-type]
    return context, checks(context, 1)


def test_batch_like_the_one_before_passes_every_check(tmp_path: Path, listings: pl.DataFrame) -> None:
    context, told = after(tmp_path, listings, listings.with_columns(street=pl.col("street") + 5e6))
    failed = {name for name, check in told.items() if not check["passed"]}
    assert failed <= {"sufficiency", "extremes"}, told
    page = context.store.get(rows.report_key(1, "html")).decode()
    assert page.count("<svg") >= 6
    known = [name for name in drift.bins("house_size") if f">{escape(name)}</text>" in page]
    assert known == sorted(known, key=page.index), "bins are in their order"
    assert "http" not in page.replace("http-equiv", ""), "the page needs nothing from elsewhere"


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        ({"colour": "red"}, "schema", "fields that the contract does not know, kept beside: colour (40)"),
        ({"bath": None}, "nulls", "nulls: bath (40)"),
        ({"status": "ready_to_build"}, "new categories", "new: status ready_to_build (40)"),
        ({"state": "Atlantis"}, "new categories", "new: state Atlantis (40)"),
        ({"price": 2e6}, "target", "the median price is $2,000,000, of the batches before $289,900"),
        ({"bed": 444.0}, "extremes", "implausible, and used: more than 50 bedrooms (40)"),
        ({"price": 1.0}, "ranges", "quarantined: price below 1,000 (40)"),
        ({"street": 1.0, "city": "Salem"}, "duplicates", "39 rows repeat another one of the batch, 0 one of another"),
        ({"street": 3.0}, "duplicates", "39 rows repeat another one of the batch, 1 one of another batch"),
    ],
)
def test_each_check_warns_of_what_it_is_for(tmp_path: Path, change: dict[str, Any], name: str, told: str) -> None:
    odd = [{**GOOD, "street": 100.0 + at, **change} for at in range(40)]
    good = [{**GOOD, "street": 200.0 + at} for at in range(30)]
    _, found = after(tmp_path, with_good(), from_records(odd + good))
    assert not found[name]["passed"]
    assert found[name]["told"].startswith(told)
    others = {other for other, check in found.items() if not check["passed"]} - {name, "sufficiency"}
    assert not others, f"{change} is no matter of {others}"


@pytest.mark.parametrize(("count", "passed"), [(2, True), (200, True), (201, False), (1, False)])
def test_volume_is_against_the_batches_before(tmp_path: Path, count: int, passed: bool) -> None:
    many = from_records([{**GOOD, "street": 1000.0 + at} for at in range(count)])
    _, found = after(tmp_path, with_good(), many)
    assert found["volume"]["passed"] is passed
    assert found["volume"]["told"] == f"{count:,} rows, the median of the batches before is 20"


def test_rows_of_another_batch_are_counted_and_used(tmp_path: Path) -> None:
    context, found = after(tmp_path, with_good(), with_good())
    assert found["duplicates"]["told"] == "0 rows repeat another one of the batch, 20 one of another batch"
    assert context.ledger.told["valid"] == 20


@given(some.lists(dirty, min_size=1, max_size=12))
@settings(max_examples=50)
def test_report_is_made_of_any_dirt(bad: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        _, found = after(Path(folder), with_good(), with_good(*bad))
        assert list(found) == [
            "schema", "nulls", "duplicates", "ranges", "extremes", "target", "volume", "new categories", "sufficiency",
        ]  # fmt: skip


def test_every_rule_of_the_declared_schemas_has_a_name_for_people() -> None:
    declared = {rule for schema in (Listing, Plausible) for rule in schema._validation_rules(with_cast=False)}
    named = {rule for rules in BROKEN.values() for rule in rules} | set(IMPLAUSIBLE)
    silent = {"row|nullability", "row|min", "row|max"} | {f"{name}|{kind}" for name in Plausible.column_names()
                                                          for kind in ("nullability", "nan", "inf")}  # fmt: skip
    assert declared - silent <= named


def test_implausible_rows_are_counted_per_reason() -> None:
    valid = valid_rows(with_good({"bed": 51.0, "bath": 222.0, "street": 99.0}, {"acre_lot": 100_000.0, "street": 98.0}))
    assert implausible(valid) == {
        "more than 50 bedrooms": 1, "more than 50 bathrooms": 1, "a lot of 100,000 acres or more": 1,
    }  # fmt: skip


def test_text_columns_take_any_text() -> None:
    judged = judge(with_good(dict.fromkeys(TEXT, "Ω") | {"street": 99.0}))
    assert judged["broken_rule"].null_count() == 21
