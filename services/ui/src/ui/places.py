"""The search above the form: finds a place, and fills in its state, city and ZIP code."""

from __future__ import annotations

import streamlit as st

from ui.language import _
from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError

FILLED = ("state", "city", "zip_code")  # keys of the inputs of the form
QUERY = "place query"
LONGEST = 60  # characters of a query


def show(predictor: Predictor) -> None:
    """Show the search, and the places that it found."""
    query = st.text_input(
        _("Find the place"),
        key=QUERY,
        max_chars=LONGEST,
        placeholder=_("ZIP code or city"),
        help=_("Fills in state, city and ZIP code of a place that the model knows. You can also enter them yourself."),
    )
    if not query:
        return
    try:
        places = predictor.places(query)
    except PredictorError as error:
        trouble(error)
        return
    if not places:
        st.caption(_("The model knows no place that begins like this: enter state, city and ZIP code below."))
        return
    key = f"place {query}"
    st.selectbox(
        _("Known places"),
        range(len(places)),
        None,
        lambda at: _name(places[at]),
        key=key,
        on_change=_fill,
        args=(key, places),
        placeholder=_("Choose one"),
    )


def _fill(key: str, places: list[Json]) -> None:
    """Put the chosen place into the inputs of the form."""
    at: int | None = st.session_state[key]
    if at is not None:
        for name in FILLED:
            st.session_state[name] = places[at][name]


def _name(place: Json) -> str:
    zip_code = f"{place['zip_code']} " if place["zip_code"] else ""
    sales = _("{count} sales", count=place["sales"])
    return f"{zip_code}{place['city']}, {place['state']} ({sales})"
