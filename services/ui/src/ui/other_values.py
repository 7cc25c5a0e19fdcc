"""The section *Try other values*: sliders for the numbers of a listing, and the price with the changed values."""

from __future__ import annotations

import math

import streamlit as st

from ui.fields import limit, titles
from ui.language import _, dollars
from ui.notices import invalid, trouble
from ui.predictor import InvalidValuesError, Json, Predictor, PredictorError

FIELDS = ("house_size", "acre_lot", "bed", "bath")


@st.fragment
def show(predictor: Predictor, listing: Json, price: float, fields: Json) -> None:
    """Show the sliders. A moved slider runs only this section again, so the rest of the page stays as it is.

    Args:
        predictor: gives the price of the changed listing.
        listing: as it was sent for the estimate.
        price: of the estimate, in US dollars.
        fields: JSON schemas of the fields of a listing, by name.
    """
    names = [name for name in FIELDS if name in fields and listing.get(name)]
    if not names:
        return
    st.header(_("Try other values"))
    changed = dict(listing)
    for name, column in zip(names, st.columns(len(names)), strict=True):
        with column:
            changed[name] = _slider(name, fields[name], listing[name])
    if changed == listing:
        st.caption(_("Move a slider to see how the price changes."))
        return
    try:
        answer = predictor.price(changed)
    except InvalidValuesError as error:
        invalid(error, titles(fields))
    except PredictorError as error:
        trouble(error)
    else:
        change = answer["price"] - price
        sign = "+" if change >= 0 else "-"
        st.metric(_("Price with these values"), dollars(answer["price"]), f"{sign}{dollars(abs(change))}")


def _slider(name: str, field: Json, value: float) -> float:
    """A slider from about a half of the value to twice the value, in whole steps if the value is whole."""
    title, maximum = _(field.get("title", name)), limit(field, "maximum")
    most = 2 * value if maximum is None else min(2 * value, maximum)
    key = f"other {name} {value}"  # another value is another slider, which starts there
    if isinstance(value, int):
        step = max(1, value // 50)
        least = max(1, value - step * math.ceil(value / 2 / step))
        return st.slider(title, least, max(int(most), value + 1), value, step, key=key)
    return st.slider(title, value / 2, max(most, 1.01 * value), value, value / 50, key=key)
