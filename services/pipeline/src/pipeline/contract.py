"""What a listing must be and what it should be: every rule on a row, declared once, by severity.

A row that breaks a rule of `Listing` is set aside (quarantine, or counted as a duplicate); one that is not `Plausible`
is used, and the report counts it. Categories are open: a new one is never a broken rule.
"""

from __future__ import annotations

import dataframely as dfy
import polars as pl

from core.features import RAW_SCHEMA
from pipeline.body import UNREAD

# A price below this is a placeholder (1 is common): such rows would drive relative errors to thousands of percent.
LOWEST_PRICE = 1_000.0
DUPLICATE = "duplicate"  # not bad, but counted before


class Listing(dfy.Schema):
    """A row that may be trained on."""

    row = dfy.UInt32()  # its place in the batch
    unread = dfy.String(nullable=True, check=lambda text: text.is_null())
    brokered_by = dfy.Float64(nullable=True)
    status = dfy.String(nullable=True)
    price = dfy.Float64(nullable=False, min=LOWEST_PRICE)
    bed = dfy.Float64(nullable=True, min=0)
    bath = dfy.Float64(nullable=True, min=0)
    acre_lot = dfy.Float64(nullable=True, min=0)
    street = dfy.Float64(nullable=True)
    city = dfy.String(nullable=True)
    state = dfy.String(nullable=True)
    zip_code = dfy.Float64(nullable=True)
    house_size = dfy.Float64(nullable=True, min=0)
    prev_sold_date = dfy.String(nullable=True)

    @dfy.rule()
    def known(cls) -> pl.Expr:  # noqa: D102 - a rule, see BROKEN
        return ~pl.all_horizontal(pl.col("bed", "bath", "acre_lot", "house_size", "city", "state").is_null())

    @dfy.rule()
    def first(cls) -> pl.Expr:  # noqa: D102 - a rule, see BROKEN
        return pl.struct(*RAW_SCHEMA).is_first_distinct()


_NUMBERS = [name for name, kind in RAW_SCHEMA.items() if kind == pl.Float64()]
# What each rule is called where people read it; the first that a row breaks is its rule.
BROKEN: dict[str, tuple[str, ...]] = {
    "unreadable": (f"{UNREAD}|check",),
    "price missing": ("price|nullability", "price|nan", "price|inf"),
    f"price below {LOWEST_PRICE:,.0f}": ("price|min",),
    "negative quantity": ("bed|min", "bath|min", "acre_lot|min", "house_size|min"),
    "infinite quantity": tuple(f"{name}|{kind}" for name in _NUMBERS for kind in ("nan", "inf") if name != "price"),
    "nothing known": ("known",),
    DUPLICATE: ("first",),
}


class Plausible(dfy.Schema):
    """A row as one expects it; what is beyond is dirt that a model has to live with, and is counted."""

    status = dfy.String(nullable=True, check=lambda text: text.is_in(["for_sale", "sold", "ready_to_build"]))
    price = dfy.Float64(min=10_000, max=50_000_000)
    bed = dfy.Float64(nullable=True, max=50)
    bath = dfy.Float64(nullable=True, max=50)
    acre_lot = dfy.Float64(nullable=True, min_exclusive=0, max_exclusive=100_000)  # both are placeholders
    zip_code = dfy.Float64(nullable=True, min=501, max=99_950)
    house_size = dfy.Float64(nullable=True, min=100, max=50_000)
    prev_sold_date = dfy.String(nullable=True, regex=r"^(19|20)\d\d-\d\d-\d\d")


# What its rules are called, by the name that the library gives them.
IMPLAUSIBLE = {
    "status|check": "status is none of for_sale, sold, ready_to_build",
    "price|min": "price below 10,000",
    "price|max": "price over 50,000,000",
    "bed|max": "more than 50 bedrooms",
    "bath|max": "more than 50 bathrooms",
    "acre_lot|min_exclusive": "a lot of 0 acres",
    "acre_lot|max_exclusive": "a lot of 100,000 acres or more",
    "zip_code|min": "zip code below 00501",
    "zip_code|max": "zip code over 99950",
    "house_size|min": "a house under 100 square feet",
    "house_size|max": "a house over 50,000 square feet",
    "prev_sold_date|regex": "date of the last sale is no ISO date since 1900",
}
