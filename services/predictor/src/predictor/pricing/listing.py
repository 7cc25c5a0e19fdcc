"""The schema of a listing: accepted values and spellings of each field, and the messages for invalid ones.

Every field is optional and nullable, because real sources have nulls everywhere and the model handles them. Unknown
categories are accepted. An impossible value is refused, so that a client's mistake is never priced.
"""

from __future__ import annotations

import codecs
import math
import re
from datetime import date, datetime
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from core.listing.schema import LATEST_SALE, MAX_NAME_LENGTH, OLDEST_SALE, RANGES, STATUSES, RawListing
from predictor.errors import InvalidBodyError, InvalidValue, TooLargeError

# JSON values per listing, at most: a body of other values would need many times its size in memory. A listing has 11.
VALUES_PER_LISTING = 64
UNCOUNTED_BYTES = 16 * 1024  # smaller bodies cannot need much memory
REPORTED_ERRORS = 100  # at most, per request; the first errors are enough to find the mistake

STATES = (
    "Alabama", "Alaska", "Arizona", "Arkansas", "California", "Colorado", "Connecticut", "Delaware",
    "District of Columbia", "Florida", "Georgia", "Guam", "Hawaii", "Idaho", "Illinois", "Indiana", "Iowa", "Kansas",
    "Kentucky", "Louisiana", "Maine", "Maryland", "Massachusetts", "Michigan", "Minnesota", "Mississippi", "Missouri",
    "Montana", "Nebraska", "Nevada", "New Hampshire", "New Jersey", "New Mexico", "New York", "North Carolina",
    "North Dakota", "Ohio", "Oklahoma", "Oregon", "Pennsylvania", "Puerto Rico", "Rhode Island", "South Carolina",
    "South Dakota", "Tennessee", "Texas", "Utah", "Vermont", "Virgin Islands", "Virginia", "Washington",
    "West Virginia", "Wisconsin", "Wyoming",
)  # fmt: skip

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}

_DAYS = f"from {OLDEST_SALE} to {LATEST_SALE}"
_ZIP = re.compile(r"([0-9]{1,5})(-[0-9]{4})?")


def _blank_is_null(value: object) -> object:
    return value.strip() or None if isinstance(value, str) else value


def _zip_number(value: object) -> object:
    """Converts `"01001"` and `"01001-1234"` to the number 1001, as in the training data."""
    value = _blank_is_null(value)
    if not isinstance(value, str):
        return value
    match = _ZIP.fullmatch(value)
    if not match:
        raise PydanticCustomError("zip_code", "ZIP code should be a number or five digits, such as 01001")
    return float(match[1])


def _day(value: object) -> object:
    """The date of an ISO date or time. Numbers are refused, because their unit is unknown."""
    value = _blank_is_null(value)
    if value is None:
        return None
    try:
        if not isinstance(value, str) or (len(value) > 10 and value[10] not in "T "):
            raise ValueError
        day = date.fromisoformat(value[:10])
    except ValueError:
        raise PydanticCustomError("date", "Input should be a date such as 2012-10-12") from None
    if not OLDEST_SALE <= day <= LATEST_SALE:
        raise PydanticCustomError("date_range", f"Date should be {_DAYS}")
    return day.isoformat()


def in_range(field: str) -> Any:
    """Constraints for a finite number in the range of a field. Booleans and texts are refused."""
    least, most = RANGES[field]
    return Field(strict=True, allow_inf_nan=False, ge=least, le=most)


Name = Annotated[Annotated[str, Field(strict=True, max_length=MAX_NAME_LENGTH)] | None, BeforeValidator(_blank_is_null)]
ZIP_PATTERN = r"^([0-9]{1,5}(-[0-9]{4})?)?$"  # empty: unknown
Zip = Annotated[
    Annotated[float, in_range("zip_code")] | None,
    BeforeValidator(
        _zip_number,
        json_schema_input_type=Annotated[float, in_range("zip_code")]
        | Annotated[str, Field(pattern=ZIP_PATTERN)]
        | None,
    ),
]
Day = Annotated[
    str | None,
    BeforeValidator(
        _day, json_schema_input_type=date | datetime | Annotated[str, Field(pattern=r"^\s*$", title="Not known")] | None
    ),
]


class Listing(BaseModel):
    """A house for sale or sold. Leave unknown fields out, or set them to null. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Name = Field(None, title="Status", examples=["for_sale"])
    bed: Annotated[float, in_range("bed")] | None = Field(None, title="Bedrooms", examples=[3])
    bath: Annotated[float, in_range("bath")] | None = Field(None, title="Bathrooms", examples=[2])
    house_size: Annotated[float, in_range("house_size")] | None = Field(
        None, title="Living area (square feet)", examples=[1276]
    )
    acre_lot: Annotated[float, in_range("acre_lot")] | None = Field(None, title="Lot (acres)", examples=[0.36])
    state: Name = Field(None, title="State", examples=["Massachusetts"])
    city: Name = Field(None, title="City", examples=["Agawam"])
    zip_code: Zip = Field(None, title="ZIP code", examples=["01001"])
    street: Annotated[float, in_range("street")] | None = Field(None, title="Street (encoded id)", examples=[1698080])
    brokered_by: Annotated[float, in_range("brokered_by")] | None = Field(
        None, title="Broker (encoded id)", examples=[67455]
    )
    prev_sold_date: Day = Field(None, title="Sold before on", description=f"A date {_DAYS}.", examples=["2012-10-12"])


EXAMPLE: dict[str, Any] = {name: field.examples[0] for name, field in Listing.model_fields.items() if field.examples}


def form_schema() -> dict[str, Any]:
    """JSON schema of a listing for forms. `known` lists the usual statuses and states."""
    schema = Listing.model_json_schema()
    schema["properties"]["status"]["known"] = list(STATUSES)
    schema["properties"]["state"]["known"] = list(STATES)
    return schema


def is_list(body: bytes) -> bool:
    """Whether the body looks like a list of listings; otherwise it is one listing, or invalid."""
    return body.lstrip()[:1] == b"["


class ListingParser:
    """Parses request bodies."""

    def __init__(self, max_listings: int) -> None:
        self.max_listings = max_listings
        self._many = TypeAdapter(Annotated[list[Listing], Field(min_length=1, max_length=max_listings)])

    def parse(self, body: bytes) -> tuple[list[RawListing], bool]:
        """The listings of a body, and whether the body is a list (true) or one object.

        Raises:
            InvalidBodyError: the body is not JSON, or a field breaks its rule.
            TooLargeError: the list has more than `max_listings` listings, or the body far more values than they need.
        """
        if len(body) > UNCOUNTED_BYTES:
            self._check_values(body)
        many = is_list(body)
        try:
            listings = self._many.validate_json(body) if many else [Listing.model_validate_json(body)]
        except ValidationError as invalid:
            for mark, encoding in _BYTE_ORDER_MARKS.items():
                if body.startswith(mark):
                    rule = f"the body begins with the byte order mark of {encoding}: send UTF-8 without such a mark"
                    raise InvalidBodyError([{"loc": ["body"], "msg": rule, "type": "json_invalid"}]) from invalid
            errors = invalid.errors(include_url=False, include_context=False)
            if errors[0]["type"] == "too_long" and not errors[0]["loc"]:
                raise TooLargeError(
                    f"the request has more than {self.max_listings} listings: send them in several requests"
                ) from invalid
            raise InvalidBodyError([describe(error) for error in errors[:REPORTED_ERRORS]]) from invalid
        return cast("list[RawListing]", [vars(listing) for listing in listings]), many  # the fields are plain values

    def _check_values(self, body: bytes) -> None:
        """Estimate the number of JSON values before parsing: each has a comma or a bracket of its own in front."""
        limit = VALUES_PER_LISTING * self.max_listings
        if sum(map(body.count, (b",", b"[", b"{"))) > limit:
            raise TooLargeError(
                f"the body has more than {limit} JSON values, {VALUES_PER_LISTING} for each of the "
                f"{self.max_listings} listings of a request: send only the fields of a listing"
            )


def describe(error: ErrorDetails) -> InvalidValue:
    """A validation error for the answer. It has the invalid value only if that is short and valid JSON."""
    field = str(error["loc"][-1]) if error["loc"] else ""
    detail: InvalidValue = {"loc": ["body", *error["loc"]], "msg": message(error, field), "type": error["type"]}
    value = error.get("input")
    if isinstance(value, bool | int | float | str) and len(str(value)) <= 100 and _finite(value):
        detail["input"] = value
    return detail


def message(error: ErrorDetails, field: str) -> str:
    """The broken rule of a field. For a number out of its range, it has both ends of the range."""
    if error["type"] in ("greater_than_equal", "less_than_equal", "finite_number") and field in RANGES:
        return f"{error['msg']} (allowed: {RANGES[field]})"
    return error["msg"]


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
