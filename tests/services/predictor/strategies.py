"""Hypothesis strategies: listings that the predictor accepts."""

from __future__ import annotations

from hypothesis import strategies as some

from core.listing.schema import LATEST_SALE, OLDEST_SALE, RANGES
from predictor.pricing.listing import STATES


def numbers(field: str) -> some.SearchStrategy[float | None]:
    """Numbers in the range of a field, and null."""
    return some.none() | some.floats(*RANGES[field]) | some.integers(*RANGES[field])


texts = some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=200) | some.sampled_from(STATES)
listings = some.fixed_dictionaries(
    {},
    optional={
        **{name: numbers(name) for name in ("bed", "bath", "acre_lot", "house_size", "street", "brokered_by")},
        **dict.fromkeys(("status", "city", "state"), texts),
        "zip_code": some.none() | some.integers(0, 99_999) | some.from_regex(r"[0-9]{1,5}(-[0-9]{4})?", fullmatch=True),
        "prev_sold_date": some.none() | some.dates(OLDEST_SALE, LATEST_SALE).map(str),
    },
)
