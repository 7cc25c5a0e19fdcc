"""Every received row is valid, a duplicate, or quarantined with a rule; a changed schema gives one error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from markupsafe import escape

from core.errors import DataError
from core.features.matrix import build_features
from core.features.training import fit_encodings
from core.listing.schema import RAW_SCHEMA
from core.stores import layout
from pipeline import rows
from pipeline.decision import drift
from pipeline.ingest.body import from_records
from pipeline.stages import validate
from pipeline.validation.row_checks import check_rows, implausible, valid_rows
from pipeline.validation.row_rules import BROKEN, IMPLAUSIBLE, Plausible, ValidRow

from .conftest import StageContext

GOOD: dict[str, Any] = {
    "brokered_by": 67455.0, "status": "for_sale", "price": 289900.0, "bed": 3.0, "bath": 2.0, "acre_lot": 0.36,
    "street": 1698080.0, "city": "Agawam", "state": "Massachusetts", "zip_code": 1001.0, "house_size": 1276.0,
    "prev_sold_date": "2012-10-12",
}  # fmt: skip
TEXT = [name for name, kind in RAW_SCHEMA.items() if kind == pl.String()]


def with_good(*bad: dict[str, Any]) -> pl.DataFrame:
    """These rows, after 20 good rows, which all differ."""
    return from_records([{**GOOD, "street": float(at)} for at in range(20)] + [{**GOOD, **row} for row in bad])


def renamed(**names: str) -> pl.DataFrame:
    return from_records([{names.get(name, name): value for name, value in GOOD.items()}] * 20)


def first_release(**odd: str) -> pl.DataFrame:
    """Raw rows as the first release stored them: a column with an unreadable value is text."""
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
def test_every_row_is_valid_or_quarantined_for_any_input(bad: list[dict[str, Any]], among_good: bool) -> None:
    raw = with_good(*bad) if among_good else from_records(bad or [{}])
    try:
        checked = check_rows(raw)
    except DataError:
        return  # the schema differs from the contract
    assert checked.height == raw.height, "a row was dropped silently"
    quarantined = checked.filter(pl.col("broken_rule").is_not_null())
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
        ({"price": 1e200}, "price over 1,000,000,000"),
        ({"bed": -1.0}, "negative quantity"),
        ({"bed": 1_001.0}, "quantity too large"),
        ({"house_size": 1e300}, "quantity too large"),
        ({"street": "nan"}, "infinite quantity"),
        ({"bath": "1e400"}, "infinite quantity"),
        ({"house_size": -0.5}, "negative quantity"),
        (dict.fromkeys(("bed", "bath", "acre_lot", "house_size", "city", "state")), "nothing known"),
        ({"street": 3.0}, "duplicate"),
    ],
)
def test_each_rule_is_reported_by_its_name(row: dict[str, Any], rule: str) -> None:
    checked = check_rows(with_good(row))
    assert checked["broken_rule"].to_list() == [None] * 20 + [rule]


def test_every_rule_has_a_test_case() -> None:
    [cases] = [mark.args[1] for mark in test_each_rule_is_reported_by_its_name.pytestmark]  # type: ignore[attr-defined]
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
def test_unusual_rows_are_valid(row: dict[str, Any]) -> None:
    assert check_rows(with_good({**row, "street": 99.0}))["broken_rule"].to_list() == [None] * 21


def test_only_the_first_of_equal_rows_is_valid() -> None:
    assert check_rows(from_records([GOOD] * 3))["broken_rule"].to_list() == [None, "duplicate", "duplicate"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (renamed(price="precio", bed="beds"), "lacks price, bed (unknown fields: beds, precio)"),
        (with_good().drop("state"), "lacks state: the schema of the data API has changed"),
        (from_records([{**GOOD, "bed": "three"}] * 20), "20 of 20 values of bed are not Float64, for example 'three'"),
        (from_records([{**GOOD, "bath": [2]}]), "1 of 1 values of bath are not Float64, for example [2]"),
        (from_records([{}]), "lacks brokered_by, status, price"),
        (first_release(bath="two"), "21 of 21 values of bath are not Float64, for example 'two'"),
    ],
)
def test_changed_schema_gives_one_error_with_the_columns(raw: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError) as changed:
        check_rows(raw)
    assert message in str(changed.value)
    assert "\n" not in str(changed.value)


def test_changed_schema_is_recorded_so_that_the_next_run_continues(tmp_path: Path) -> None:
    context = StageContext(tmp_path, with_good().drop("state"))
    with pytest.raises(DataError, match="lacks state"):
        validate.run(context, 0)  # type: ignore[arg-type]
    assert context.ledger.recorded == {"refused": "the batch lacks state: the schema of the data API has changed"}


def test_stage_counts_every_row_and_quarantines_bad_ones(tmp_path: Path) -> None:
    bad = ({"price": 1.0}, {"price": 2.0}, {"bed": "many"}, {"street": 3.0})
    context = StageContext(tmp_path, with_good(*bad))
    for _ in range(2):  # a second run has the same result
        result = validate.run(context, 0)  # type: ignore[arg-type]
        message = [result[name] for name in ("rows", "valid", "quarantined", "duplicates")]
        assert message == [24, 20, 3, 1]
        assert result["rules"] == {"price below 1,000": 2, "unreadable": 1}
        assert context.ledger.recorded == {"valid": 20, "duplicates": 1, "quarantine": result["rules"]}
        kept = rows.read(context.store, layout.quarantine_key(0))
        assert kept["broken_rule"].to_list() == ["price below 1,000", "price below 1,000", "unreadable"]
    assert result["summary"].startswith("batch 0: 24 rows = 20 valid + 3 quarantined (2 price below 1,000, 1 ")


def test_batch_without_a_valid_row_is_refused_with_its_counts(tmp_path: Path) -> None:
    context = StageContext(tmp_path, from_records([{**GOOD, "price": 1.0}] * 3))
    message = "no row of batch 0 can be used: 3 rows = 0 valid + 3 quarantined (3 price below 1,000) + 0 duplicates"
    with pytest.raises(DataError) as refused:
        validate.run(context, 0)  # type: ignore[arg-type]
    assert context.ledger.recorded == {"refused": message} == {"refused": str(refused.value)}
    assert checks(context, 0)["schema"]["told"] == message


def checks(context: StageContext, batch: int) -> dict[str, dict[str, Any]]:
    """The checks of a stored report. Asserts that the page shows each."""
    message = json.loads(context.store.get(layout.report_key(batch, "json")))
    page = context.store.get(layout.report_key(batch, "html")).decode()
    assert message["rows"] == message["valid"] + message["quarantined"] + message["duplicates"]
    assert message["quarantined"] == sum(message["rules"].values())
    for check in message["checks"]:
        assert escape(check["told"]) in page, f"the page does not show: {check['told']}"
    return {check["name"]: check for check in message["checks"]}


def after(tmp_path: Path, first: pl.DataFrame, then: pl.DataFrame) -> tuple[StageContext, dict[str, dict[str, Any]]]:
    """Validate two batches; returns the checks of the second."""
    context = StageContext(tmp_path, first)
    validate.run(context, 0)  # type: ignore[arg-type]
    context.add(1, then)
    validate.run(context, 1)  # type: ignore[arg-type]
    return context, checks(context, 1)


def test_batch_similar_to_the_other_one_passes_every_check(tmp_path: Path, listings: pl.DataFrame) -> None:
    context, message = after(tmp_path, listings, listings.with_columns(street=pl.col("street") + 5e6))
    failed = {name for name, check in message.items() if not check["passed"]}
    assert failed <= {"sufficiency", "extremes"}, message
    page = context.store.get(layout.report_key(1, "html")).decode()
    assert page.count("<svg") >= 6
    names = [name for name in drift.bin_names("house_size") if f">{escape(name)}</text>" in page]
    assert names == sorted(names, key=page.index), "the bins are not in order"
    assert "http" not in page.replace("http-equiv", ""), "the page loads something from elsewhere"


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"colour": "red"}, "schema", "fields that are not in the contract, stored separately: colour (40)"),
        ({"bath": None}, "nulls", "nulls: bath (40)"),
        ({"status": "ready_to_build"}, "new categories", "new: status ready_to_build (40)"),
        ({"state": "Atlantis"}, "new categories", "new: state Atlantis (40)"),
        ({"price": 2e6}, "target", "the median price is $2,000,000, that of the other batches $289,900"),
        ({"bed": 444.0}, "extremes", "implausible, but used: more than 50 bedrooms (40)"),
        ({"price": 1.0}, "ranges", "quarantined: price below 1,000 (40)"),
        ({"street": 1.0, "city": "Salem"}, "duplicates", "39 rows repeat a row of this batch, 0 a row of another"),
        ({"street": 3.0}, "duplicates", "39 rows repeat a row of this batch, 1 a row of another batch"),
    ],
)
def test_each_check_warns_of_its_problem(tmp_path: Path, change: dict[str, Any], name: str, message: str) -> None:
    odd = [{**GOOD, "street": 100.0 + at, **change} for at in range(40)]
    good = [{**GOOD, "street": 200.0 + at} for at in range(30)]
    _, results = after(tmp_path, with_good(), from_records(odd + good))
    assert not results[name]["passed"]
    assert results[name]["told"].startswith(message)
    others = {other for other, check in results.items() if not check["passed"]} - {name, "sufficiency"}
    assert not others, f"{change} should not fail {others}"


@pytest.mark.parametrize(("count", "passed"), [(2, True), (200, True), (201, False), (1, False)])
def test_volume_is_compared_with_the_other_batches(tmp_path: Path, count: int, passed: bool) -> None:
    many = from_records([{**GOOD, "street": 1000.0 + at} for at in range(count)])
    _, results = after(tmp_path, with_good(), many)
    assert results["volume"]["passed"] is passed
    assert results["volume"]["told"] == f"{count:,} rows, the median of the other batches is 20"


def test_rows_of_another_batch_are_counted_but_used(tmp_path: Path) -> None:
    context, results = after(tmp_path, with_good(), with_good())
    assert results["duplicates"]["told"] == "0 rows repeat a row of this batch, 20 a row of another batch"
    assert context.ledger.recorded["valid"] == 20


@given(some.lists(dirty, min_size=1, max_size=12))
@settings(max_examples=50)
def test_any_input_gives_a_report(bad: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        _, results = after(Path(folder), with_good(), with_good(*bad))
        assert list(results) == [
            "schema", "nulls", "duplicates", "ranges", "extremes", "target", "volume", "new categories", "sufficiency",
        ]  # fmt: skip


def test_every_rule_of_the_schemas_has_a_name_for_people() -> None:
    declared = {rule for schema in (ValidRow, Plausible) for rule in schema._validation_rules(with_cast=False)}
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
    checked = check_rows(with_good(dict.fromkeys(TEXT, "Ω") | {"street": 99.0}))
    assert checked["broken_rule"].null_count() == 21
