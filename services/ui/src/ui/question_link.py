"""Keeps the listing of an estimate in the address of the page, so that a link asks the same question."""

from __future__ import annotations

import math
from datetime import date, datetime

import streamlit as st

from ui.fields import OLDEST, is_whole, kinds, limit
from ui.language import PARAMETER
from ui.predictor import Json


def write(listing: Json) -> None:
    """Put a listing into the address, which keeps the language."""
    kept = {PARAMETER: st.query_params[PARAMETER]} if PARAMETER in st.query_params else {}
    st.query_params.from_dict(kept | {name: str(value) for name, value in listing.items()})


def read(fields: Json) -> Json:
    """The listing in the address; empty without one. A value that its input cannot show is left out.

    Args:
        fields: JSON schemas of the fields of a listing, by name.
    """
    values = {name: _value(field, st.query_params[name]) for name, field in fields.items() if name in st.query_params}
    return {name: value for name, value in values.items() if value is not None}


def _value(field: Json, text: str) -> int | float | str | None:
    accepted = kinds(field)
    try:
        if "date" in accepted:
            day = date.fromisoformat(text)
            return day.isoformat() if OLDEST <= day <= datetime.now().astimezone().date() else None
        if "string" in accepted:
            return text
        number = int(text) if is_whole(field) else float(text)
    except ValueError:
        return None
    least, most = limit(field, "minimum"), limit(field, "maximum")
    inside = math.isfinite(number) and (least is None or least <= number) and (most is None or number <= most)
    return number if inside else None
