"""Declares every rule for a row, as two schemas: `ValidRow` for errors, `Plausible` for warnings.

`row_checks` applies them. A row that breaks a rule of `ValidRow` is quarantined, or counted as a duplicate. A row that
is not `Plausible` is used, and the report counts it. Categories are open: a new one never breaks a rule.
"""

from __future__ import annotations

import dataframely as dfy
import polars as pl

from core.listing.schema import QUANTITIES, RANGES, RAW_SCHEMA, STATUSES
from pipeline.ingest.body import UNREAD

DUPLICATE = "duplicate"  # not an error, but the same row was counted before


def _field(name: str) -> dfy.Column:
    """A column with the type of a raw listing, and the range of a price or a quantity."""
    if RAW_SCHEMA[name] == pl.String():
        return dfy.String(nullable=True)
    if name != "price" and name not in QUANTITIES:
        return dfy.Float64(nullable=True)
    least, most = RANGES[name]
    return dfy.Float64(nullable=name != "price", min=float(least), max=float(most))


class ValidRow(dfy.Schema):
    """A row that may be trained on."""

    row = dfy.UInt32()  # index of the row in the batch
    unread = dfy.String(nullable=True, check=lambda text: text.is_null())
    brokered_by = _field("brokered_by")
    status = _field("status")
    price = _field("price")
    bed = _field("bed")
    bath = _field("bath")
    acre_lot = _field("acre_lot")
    street = _field("street")
    city = _field("city")
    state = _field("state")
    zip_code = _field("zip_code")
    house_size = _field("house_size")
    prev_sold_date = _field("prev_sold_date")

    @dfy.rule()
    def informative(cls) -> pl.Expr:  # noqa: D102 - the name of a rule; BROKEN describes it
        return ~pl.all_horizontal(pl.col(*QUANTITIES, "city", "state").is_null())

    @dfy.rule()
    def first(cls) -> pl.Expr:  # noqa: D102 - the name of a rule; BROKEN describes it
        return pl.struct(*RAW_SCHEMA).is_first_distinct()


_NUMBERS = [name for name, kind in RAW_SCHEMA.items() if kind == pl.Float64()]
# Name of each rule for people, and its rules in dataframely. If a row breaks several, the first one here counts.
BROKEN: dict[str, tuple[str, ...]] = {
    "unreadable": (f"{UNREAD}|check",),
    "price missing": ("price|nullability", "price|nan", "price|inf"),
    f"price below {RANGES['price'].least:,}": ("price|min",),
    f"price over {RANGES['price'].most:,}": ("price|max",),
    "negative quantity": tuple(f"{name}|min" for name in QUANTITIES),
    "infinite quantity": tuple(f"{name}|{kind}" for name in _NUMBERS for kind in ("nan", "inf") if name != "price"),
    "quantity too large": tuple(f"{name}|max" for name in QUANTITIES),
    "nothing known": ("informative",),
    DUPLICATE: ("first",),
}


class Plausible(dfy.Schema):
    """A row with plausible values. Rows beyond these limits are used, and counted."""

    status = dfy.String(nullable=True, check=lambda text: text.is_in(STATUSES))
    price = dfy.Float64(min=10_000, max=50_000_000)
    bed = dfy.Float64(nullable=True, max=50)
    bath = dfy.Float64(nullable=True, max=50)
    acre_lot = dfy.Float64(nullable=True, min_exclusive=0, max_exclusive=100_000)  # both are placeholders
    zip_code = dfy.Float64(nullable=True, min=501, max=99_950)
    house_size = dfy.Float64(nullable=True, min=100, max=50_000)
    prev_sold_date = dfy.String(nullable=True, regex=r"^(19|20)\d\d-\d\d-\d\d")


# Name of each rule of `Plausible` for people, by its name in dataframely.
IMPLAUSIBLE = {
    "status|check": f"status is not {', '.join(STATUSES[:-1])} or {STATUSES[-1]}",
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
    "prev_sold_date|regex": "date of the last sale is not an ISO date since 1900",
}
