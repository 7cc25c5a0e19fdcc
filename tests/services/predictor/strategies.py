"""Hypothesis strategies: listings that the predictor accepts."""

from __future__ import annotations

from datetime import date

from hypothesis import strategies as some

from predictor.pricing.listing import STATES

numbers = some.none() | some.floats(min_value=0, allow_nan=False, allow_infinity=False) | some.integers(0, 10**18)
texts = some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=200) | some.sampled_from(STATES)
listings = some.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("bed", "bath", "acre_lot", "house_size", "street", "brokered_by"), numbers),
        **dict.fromkeys(("status", "city", "state"), texts),
        "zip_code": some.none() | some.integers(0, 99_999) | some.from_regex(r"[0-9]{1,5}(-[0-9]{4})?", fullmatch=True),
        "prev_sold_date": some.none() | some.dates(min_value=date(1, 1, 1)).map(str),
    },
)
