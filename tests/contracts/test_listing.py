"""The rows that are trained on and the listings that are priced have the fields of `core.listing.schema.RAW_SCHEMA`."""

from __future__ import annotations

from typing import get_type_hints

import polars as pl
import pytest
from pydantic import ValidationError

from core.features.columns import TARGET
from core.listing.parsing import parse_listings
from core.listing.schema import QUANTITIES, RANGES, RAW_SCHEMA, RawListing
from pipeline.validation.row_checks import check_rows
from pipeline.validation.row_rules import ValidRow
from predictor.http.feedback import Feedback
from predictor.pricing.listing import Listing


def test_plain_listings_have_the_fields_and_types_of_raw_listings() -> None:
    types = {pl.Float64(): float | None, pl.String(): str | None}
    assert get_type_hints(RawListing) == {name: types[kind] for name, kind in RAW_SCHEMA.items()}


def test_training_rows_have_the_fields_and_types_of_raw_listings() -> None:
    types = {name: column.dtype for name, column in ValidRow.columns().items()}
    assert {name: types[name] for name in RAW_SCHEMA} == RAW_SCHEMA
    assert set(types) - set(RAW_SCHEMA) == {"row", "unread"}, "only the position in the batch and unreadable values"


def test_requests_have_all_fields_of_raw_listings_but_the_price() -> None:
    assert set(Listing.model_fields) == set(RAW_SCHEMA) - {TARGET}


def test_requests_convert_to_raw_listings() -> None:
    """A number stays a number and a text stays a text, so that serving and training see the same types."""
    example = {name: field.examples[0] for name, field in Listing.model_fields.items() if field.examples}
    for name, value in vars(Listing(**example)).items():
        assert isinstance(value, str if RAW_SCHEMA[name] == pl.String() else float), f"{name} is {value!r}"


@pytest.mark.parametrize("name", QUANTITIES)
def test_training_rows_and_requests_refuse_the_same_quantities(name: str) -> None:
    least, most = RANGES[name]
    row = {"price": 100_000.0, "city": "Boston"}
    rows = parse_listings([row | {name: value} for value in (float(least), float(most), least - 0.5, most + 0.5)])
    assert check_rows(rows)["broken_rule"].to_list() == [None, None, "negative quantity", "quantity too large"]
    for value in RANGES[name]:
        Listing.model_validate({name: value})
    with pytest.raises(ValidationError, match=f"greater than or equal to {least}"):
        Listing.model_validate({name: least - 0.5})
    with pytest.raises(ValidationError, match=f"less than or equal to {most}"):
        Listing.model_validate({name: most + 0.5})


def test_training_rows_and_feedback_have_the_same_prices() -> None:
    """A price that is not trained on says nothing about the error of a model either."""
    least, most = RANGES["price"]
    row = {"city": "Boston"}
    rows = parse_listings([row | {"price": value} for value in (float(least), float(most), least - 0.01, most + 1.0)])
    assert check_rows(rows)["broken_rule"].to_list() == [None, None, "price below 1,000", "price over 1,000,000,000"]
    for value in RANGES["price"]:
        Feedback.model_validate({"request_id": "a", "price": value})
    for value in (least - 0.01, most + 1.0):
        with pytest.raises(ValidationError, match="than or equal to"):
            Feedback.model_validate({"request_id": "a", "price": value})
