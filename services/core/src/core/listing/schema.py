"""The schema of a raw listing: names and types of the twelve fields of the data API, in the order of its columns.

It also has the rules for values that hold for the rows of a batch and for requests alike. Each side adds its own rules.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple, TypedDict

import polars as pl

RAW_SCHEMA: dict[str, pl.DataType] = {
    "brokered_by": pl.Float64(),  # encoded id
    "status": pl.String(),
    "price": pl.Float64(),  # US dollars
    "bed": pl.Float64(),
    "bath": pl.Float64(),
    "acre_lot": pl.Float64(),  # acres
    "street": pl.Float64(),  # encoded id
    "city": pl.String(),
    "state": pl.String(),
    "zip_code": pl.Float64(),  # a number that lost its leading zeros
    "house_size": pl.Float64(),  # square feet
    "prev_sold_date": pl.String(),  # ISO date
}


class RawListing(TypedDict, total=False):
    """A listing as plain values of the types of `RAW_SCHEMA`. An absent field is as good as None."""

    brokered_by: float | None
    status: str | None
    price: float | None
    bed: float | None
    bath: float | None
    acre_lot: float | None
    street: float | None
    city: str | None
    state: str | None
    zip_code: float | None
    house_size: float | None
    prev_sold_date: str | None


QUANTITIES = ("bed", "bath", "acre_lot", "house_size")  # fields whose ranges hold for training rows, too


class Range(NamedTuple):
    """The smallest and the largest value of a field. Other values are errors."""

    least: int
    most: int

    def __str__(self) -> str:
        """The range for people."""
        return f"{self.least:,} to {self.most:,}"


# Real listings have prices up to 515,000,000, and up to 444 bedrooms, 222 bathrooms, 100,000 acres and 1,560,780 square
# feet. Some of these are typing errors, but the features handle them. The limits refuse only what is certainly wrong.
RANGES: dict[str, Range] = {
    # A lower price is a placeholder (1 is common). Such rows would cause relative errors of thousands of percent.
    "price": Range(1_000, 1_000_000_000),
    "bed": Range(0, 1_000),
    "bath": Range(0, 1_000),
    "acre_lot": Range(0, 1_000_000),
    "house_size": Range(0, 10_000_000),
    "zip_code": Range(0, 99_999),
    "street": Range(0, 2**53 - 1),  # larger integers are not exact as floats
    "brokered_by": Range(0, 2**53 - 1),
}
OLDEST_SALE, LATEST_SALE = date(1800, 1, 1), date(2100, 12, 31)  # of `prev_sold_date` in requests
MAX_NAME_LENGTH = 200  # characters of a text in requests
STATUSES = ("for_sale", "sold", "ready_to_build")  # the usual ones; others are accepted
