"""Accepted spellings of a listing, and the error messages for invalid values."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.listing.schema import STATUSES
from predictor.errors import InvalidBodyError, TooLargeError
from predictor.pricing.listing import EXAMPLE, STATES, Listing, ListingParser, form_schema

LISTINGS = ListingParser(max_listings=3)


def parsed(value: Any) -> dict[str, Any]:
    (listing,), many = LISTINGS.parse(json.dumps(value).encode())
    assert not many
    return listing


def refusal(body: bytes | Any) -> dict[tuple[str | int, ...], str]:
    """Location and message of every error."""
    with pytest.raises(InvalidBodyError) as refused:
        LISTINGS.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    json.dumps(refused.value.errors, allow_nan=False)
    return {tuple(error["loc"]): error["msg"] for error in refused.value.errors}


@pytest.mark.parametrize(
    ("field", "spelling", "value"),
    [
        ("zip_code", "01001", 1001.0),
        ("zip_code", "01001-1234", 1001.0),
        ("zip_code", 1001, 1001.0),
        ("zip_code", 1001.0, 1001.0),
        ("zip_code", "", None),
        ("bed", 3, 3.0),
        ("bed", None, None),
        ("city", " Agawam ", "Agawam"),
        ("city", " ", None),
        ("city", "Nowhere at all", "Nowhere at all"),
        ("status", "auctioned", "auctioned"),
        ("prev_sold_date", "2012-10-12", "2012-10-12"),
        ("prev_sold_date", "2012-10-12T23:00:00Z", "2012-10-12"),
        ("prev_sold_date", "", None),
    ],
)
def test_spelling_is_accepted(field: str, spelling: Any, value: Any) -> None:
    assert parsed({field: spelling})[field] == value


def test_no_field_is_required_and_unknown_fields_are_ignored() -> None:
    assert parsed({}) == dict.fromkeys(Listing.model_fields)
    assert parsed({"price": 1, "colour": "red"}) == dict.fromkeys(Listing.model_fields)
    assert parsed(dict.fromkeys(Listing.model_fields)) == dict.fromkeys(Listing.model_fields)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("bed", b'"many"', "valid number"),
        ("bed", b'"3"', "valid number"),
        ("bed", b"true", "valid number"),
        ("bed", b"[3]", "valid number"),
        ("bath", b"-1", "greater than or equal to 0"),
        ("house_size", b"-0.5", "greater than or equal to 0"),
        ("acre_lot", b"NaN", "finite number"),
        ("acre_lot", b"Infinity", "finite number"),
        ("acre_lot", b"1e999", "finite number"),
        ("street", b"9" * 400, "finite number"),
        ("zip_code", b'"O1001"', "five digits"),
        ("zip_code", b"100000", "less than or equal to 99999"),
        ("zip_code", b"true", "valid number"),
        ("state", b"5", "valid string"),
        ("city", b'"' + b"x" * 201 + b'"', "at most 200"),
        ("prev_sold_date", b'"12.10.2012"', "date such as"),
        ("prev_sold_date", b'"2012-13-01"', "date such as"),
        ("prev_sold_date", b"1350000000", "date such as"),
    ],
)
def test_invalid_value_is_refused_with_its_field_and_rule(field: str, value: bytes, rule: str) -> None:
    body = b'{"%s": %s}' % (field.encode(), value)
    errors = refusal(body)
    assert list(errors) == [("body", field)]
    assert rule in errors["body", field]
    assert list(refusal(b"[{}, %s]" % body)) == [("body", 1, field)]


@pytest.mark.parametrize("body", [b"", b"x", b"{", b"5", b'"a"', b"null", b"[]", b"[1]", b"\xff\xfe", b"[" * 5000])
def test_other_bodies_are_refused(body: bytes) -> None:
    assert all(location[0] == "body" for location in refusal(body))


@pytest.mark.parametrize(("encoding", "name"), [("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16")])
def test_byte_order_mark_is_named(encoding: str, name: str) -> None:
    with pytest.raises(InvalidBodyError) as refused:
        LISTINGS.parse(json.dumps(EXAMPLE).encode(encoding))
    [error] = refused.value.errors
    assert f"the byte order mark of {name}" in error["msg"]


def test_too_many_listings_are_a_different_error() -> None:
    assert len(LISTINGS.parse(b"[{}, {}, {}]")[0]) == 3
    with pytest.raises(TooLargeError, match="more than 3 listings"):
        LISTINGS.parse(b"[{}, {}, {}, {}]")


def test_number_of_reported_errors_is_limited() -> None:
    listings = ListingParser(max_listings=1000)
    with pytest.raises(InvalidBodyError) as refused:
        listings.parse(json.dumps([{"bed": "x"}] * 1000).encode())
    assert len(refused.value.errors) == 100


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=30),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
records = some.dictionaries(some.sampled_from([*Listing.model_fields, "price"]), json_values)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw loads tables
@given(records | some.lists(records, max_size=4))
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    try:
        listings, many = LISTINGS.parse(body)
    except (InvalidBodyError, TooLargeError) as refused:
        json.dumps(getattr(refused, "errors", []), allow_nan=False)
    else:
        assert many == isinstance(value, list)
        assert all(set(listing) == set(Listing.model_fields) for listing in listings)


@given(some.binary(max_size=50))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidBodyError, TooLargeError):
        LISTINGS.parse(body)


def test_form_schema_has_titles_examples_and_usual_values() -> None:
    fields = form_schema()["properties"]
    assert all(field["title"] and field["examples"] for field in fields.values()), fields
    assert fields["status"]["known"] == list(STATUSES)
    assert fields["state"]["known"] == list(STATES)
    assert parsed(EXAMPLE)["city"] == "Agawam"
