"""The stored content of a body depends on its listings only, not on their spelling, and no value is lost."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from datasource import synthetic
from pipeline.ingest import body
from pipeline.ingest.body import UNKNOWN, UNREAD, BatchContent, InvalidBody, content_hash, fields, from_records, read

TEXT = [name for name, kind in RAW_SCHEMA.items() if kind == pl.String()]
ROWS = synthetic.generate(0, seed=7, scale=0.002)[0]

# -0.0 becomes 0.0, because integers have no negative zero
number = some.none() | (some.integers(-(10**6), 10**6) | some.floats(-1e12, 1e12)).map(lambda value: value + 0.0)
text = some.none() | some.sampled_from(["sold", "Agawam", "2012-10-12", "Ωmega", 'a "quoted" },{ name', " x "])
listing = some.fixed_dictionaries({name: text if name in TEXT else number for name in RAW_SCHEMA})


def respell(listings: list[dict[str, Any]], draw: some.DataObject) -> Iterator[dict[str, Any]]:
    """The same listings, each with its own spelling in JSON."""
    for row in listings:
        spelling = draw.draw(some.sampled_from(["own", "whole", "padded", "other fields", "nothing for null"]))
        respelled = dict(row)
        if spelling == "whole":
            respelled = {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in row.items()}
        elif spelling == "padded" and isinstance(row["zip_code"], float) and row["zip_code"].is_integer():
            respelled["zip_code"] = f"{int(row['zip_code']):06}"
        elif spelling == "other fields":
            respelled = {"colour": "red", **dict(reversed(row.items())), "more": [{"a": 1}, {"b": 2}]}
        elif spelling == "nothing for null":
            respelled = {n: v for n, v in row.items() if v is not None}
        yield respelled


def sent(listings: list[dict[str, Any]], number: int = 3) -> BatchContent:
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps({"data": listings, "day": "Tuesday", "batch_number": number}).encode())
        file.flush()
        return read(file)


@given(some.lists(listing, min_size=1, max_size=12), some.data(), some.integers(1, 5))
@settings(max_examples=200)
def test_content_and_hash_do_not_depend_on_the_spelling(
    listings: list[dict[str, Any]], draw: some.DataObject, chunk: int
) -> None:
    own = sent(listings)
    with pytest.MonkeyPatch.context() as smaller:
        smaller.setattr(body, "_CHUNK", chunk)
        other = sent([dict.fromkeys(RAW_SCHEMA) | listings[0], *respell(listings[1:], draw)])
    assert other.sha256 == own.sha256
    assert other.raw.select(*RAW_SCHEMA).equals(own.raw.select(*RAW_SCHEMA))
    assert own.raw.equals(parse_listings(listings))
    assert content_hash(own.raw) == own.sha256
    assert (own.batch_number, list(own.raw.columns)) == (3, list(RAW_SCHEMA))


@given(some.lists(listing, min_size=2, max_size=6, unique_by=str), some.data())
@settings(max_examples=50)
def test_other_listings_or_another_order_have_another_hash(
    listings: list[dict[str, Any]], draw: some.DataObject
) -> None:
    assert sent(listings[::-1]).sha256 != sent(listings).sha256
    assert sent(listings[1:]).sha256 != sent(listings).sha256
    at, name = draw.draw(some.integers(0, len(listings) - 1)), draw.draw(some.sampled_from(list(RAW_SCHEMA)))
    changed = [dict(row) for row in listings]
    changed[at][name] = "another" if name in TEXT else 0.125
    assert (sent(changed).sha256 == sent(listings).sha256) is (changed == listings)


odd = some.sampled_from([True, [1], {"a": "b"}, "many", [], {}, "1e", [{"a": 1}, {"b": 2}]])


@given(
    some.lists(some.tuples(listing, some.dictionaries(some.sampled_from([*RAW_SCHEMA, "colour"]), odd, max_size=3)),
               min_size=1, max_size=8),
    some.integers(1, 5),
)  # fmt: skip
@settings(max_examples=100)
def test_unreadable_values_are_stored_unchanged_with_the_readable_ones(
    rows: list[tuple[dict[str, Any], dict[str, Any]]], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as smaller:
        smaller.setattr(body, "_CHUNK", chunk)
        raw = body.with_extra(sent([row | bad for row, bad in rows]).raw)
    for (row, bad), stored in zip(rows, raw.iter_rows(named=True), strict=True):
        unread = json.loads(stored[UNREAD] or "{}")
        unknown = json.loads(stored[UNKNOWN] or "{}")
        for name, value in (row | bad).items():
            kept = unknown if name not in RAW_SCHEMA else unread if name in unread else stored
            assert kept[name] == value, name


def test_hash_is_the_same_as_in_earlier_releases() -> None:
    """Otherwise, every stored batch would count as new."""
    before = hashlib.sha256(ROWS.write_ndjson().encode()).hexdigest()
    assert content_hash(ROWS) == before == sent(ROWS.to_dicts()).sha256


def test_unreadable_values_change_the_hash() -> None:
    good = dict.fromkeys(RAW_SCHEMA) | {"price": 1.0}
    hashes = {
        sent(rows).sha256
        for rows in ([good], [good | {"bed": "two"}], [good | {"bed": "three"}], [{"price": 1.0}], [{"precio": 1.0}])
    }
    assert len(hashes) == 5


def test_field_without_values_has_no_column_and_empty_rows_are_counted() -> None:
    assert from_records([{"price": 1}, {"bed": 2}]).columns == ["price", "bed"]
    nothing = from_records([{}, {"colour": "red"}, {}])
    assert (nothing.height, fields(nothing[UNKNOWN])) == (3, {"colour": ["red"]})


@pytest.mark.parametrize("cut", [0, 1, 30, 200, -1, -2])
def test_body_that_is_cut_off_is_invalid(cut: int) -> None:
    whole = json.dumps({"batch_number": 1, "data": ROWS.head(3).to_dicts()}).encode()
    with tempfile.TemporaryFile() as file:
        file.write(whole[:cut])
        file.flush()
        with pytest.raises(InvalidBody, match="is not JSON"):
            read(file)
