"""The rows that are trained on and the listings that are priced have the fields of `core.listing.schema.RAW_SCHEMA`."""

from __future__ import annotations

import polars as pl
import pytest
from pydantic import ValidationError

from core.features.columns import TARGET
from core.listing.parsing import parse_listings
from core.listing.schema import MIN_QUANTITY, QUANTITIES, RAW_SCHEMA
from pipeline.validation.row_checks import check_rows
from pipeline.validation.row_rules import Listing as TrainingRow
from predictor.pricing.listing import Listing as RequestListing


def test_training_rows_have_the_fields_and_types_of_raw_listings() -> None:
    types = {name: column.dtype for name, column in TrainingRow.columns().items()}
    assert {name: types[name] for name in RAW_SCHEMA} == RAW_SCHEMA
    assert set(types) - set(RAW_SCHEMA) == {"row", "unread"}, "only the position in the batch and unreadable values"


def test_requests_have_all_fields_of_raw_listings_but_the_price() -> None:
    assert set(RequestListing.model_fields) == set(RAW_SCHEMA) - {TARGET}


def test_requests_convert_to_raw_listings() -> None:
    """A number stays a number and a text stays a text, so that serving and training see the same types."""
    example = {name: field.examples[0] for name, field in RequestListing.model_fields.items() if field.examples}
    for name, value in vars(RequestListing(**example)).items():
        assert isinstance(value, str if RAW_SCHEMA[name] == pl.String() else float), f"{name} is {value!r}"


@pytest.mark.parametrize("name", QUANTITIES)
def test_training_rows_and_requests_refuse_the_same_quantities(name: str) -> None:
    row = {"price": 100_000.0, "city": "Boston", name: float(MIN_QUANTITY)}
    rows = parse_listings([row, row | {name: MIN_QUANTITY - 0.5}])
    assert check_rows(rows)["broken_rule"].to_list() == [None, "negative quantity"]
    RequestListing.model_validate({name: MIN_QUANTITY})
    with pytest.raises(ValidationError, match=f"greater than or equal to {MIN_QUANTITY}"):
        RequestListing.model_validate({name: MIN_QUANTITY - 0.5})
