"""The schema of a raw listing: names and types of the twelve fields of the data API, in the order of its columns.

It also has the rules for values that hold for the rows of a batch and for requests alike. Each side adds its own rules.
"""

from __future__ import annotations

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
QUANTITIES = ("bed", "bath", "acre_lot", "house_size")  # fields with a smallest value
MIN_QUANTITY = 0  # a smaller value is an error
STATUSES = ("for_sale", "sold", "ready_to_build")  # the usual ones; others are accepted
