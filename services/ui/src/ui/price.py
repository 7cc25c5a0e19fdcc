"""Page: ask for the price of one house, with a form built from the predictor's own schema."""

from __future__ import annotations

from datetime import date
from typing import Any

import streamlit as st

from ui.notices import trouble
from ui.predictor import InvalidListingError, Json, Predictor, PredictorError

ROWS = (("state", "city", "zip_code"), ("house_size", "acre_lot"), ("bed", "bath"), ("status", "prev_sold_date"))
OLDEST = date(1900, 1, 1)


def show(predictor: Predictor) -> None:
    """The form, and the answer under it."""
    st.title("What is the house worth?")
    st.caption("The values are an example: change what you know and clear what you do not.")
    try:
        fields: Json = predictor.schema()["properties"]
    except PredictorError as error:
        trouble(error)
        return
    with st.form("listing"):
        listing = _fields(fields)
        asked = st.form_submit_button("Ask for the price", type="primary", icon=":material/sell:")
    if asked:
        _answer(predictor, {name: value for name, value in listing.items() if value is not None}, fields)


def _fields(fields: Json) -> Json:
    """Draw an input for every field of the schema; those without a place of their own come under *More*."""
    listing: Json = {}
    for row in ROWS:
        names = [name for name in row if name in fields]
        for name, column in zip(names, st.columns(max(len(names), 1)), strict=False):
            with column:
                listing[name] = _field(name, fields[name])
    rest = [name for name in fields if name not in listing]
    if rest:
        with st.expander("More"):
            for name, column in zip(rest, st.columns(len(rest)), strict=True):
                with column:
                    listing[name] = _field(name, fields[name])
    return listing


def _field(name: str, field: Json) -> Any:
    """One input of the kind that the field's schema asks for, at first holding the schema's example.

    The example comes by way of the session's state, because Streamlit lets people clear only what has no default.
    """
    title, example = field.get("title", name), next(iter(field.get("examples", [])), None)
    variants = field.get("anyOf", [field])
    kinds = {variant.get("format", variant.get("type")) for variant in variants}
    whole = isinstance(example, int)
    if "date" in kinds and example is not None:
        example = date.fromisoformat(example)
    st.session_state.setdefault(name, example)
    shared: Json = {"key": name, "placeholder": "not known"}
    if "known" in field:
        return st.selectbox(title, field["known"], None, _spoken, accept_new_options=True, **shared)
    if "date" in kinds:
        day = st.date_input(title, None, min_value=OLDEST, max_value="today", key=name)
        return day.isoformat() if isinstance(day, date) else None
    if "string" in kinds:
        return st.text_input(title, None, **shared) or None
    least = next((variant["minimum"] for variant in variants if "minimum" in variant), None)
    if least is not None and not whole:
        least = float(least)
    return st.number_input(title, least, value=None, step=1 if whole else 0.01, **shared)


def _spoken(category: str) -> str:
    """`for_sale` as people write it; names of states stay as they are."""
    return category.replace("_", " ").capitalize() if "_" in category or category.islower() else category


def _answer(predictor: Predictor, listing: Json, fields: Json) -> None:
    try:
        with st.spinner("Asking the predictor"):
            told = predictor.explain(listing)
    except InvalidListingError as invalid:
        trouble(invalid)
        for name, rule in invalid.fields.items():
            st.markdown(f"- **{fields.get(name, {}).get('title', name)}**: {rule}")
        return
    except PredictorError as error:
        trouble(error)
        return
    with st.container(border=True):
        st.metric("Estimated price", f"${told['price']:,.0f}")
        if told.get("low") is not None:  # a predictor of an earlier release tells none
            st.markdown(f"Four of five such houses have prices from \\${told['low']:,.0f} to \\${told['high']:,.0f}.")
        st.caption(
            f"Model **{told['model_name']}**, version **{told['model_version']}** · request id `{told['request_id']}`"
        )
    _reasons(told)


def _reasons(told: Json) -> None:
    """The contributions as a table, the largest first; they add up to the price."""
    st.subheader("Why this price")
    st.markdown(
        f"The model's expectation before it knows the house is \\${told['base_value']:,.0f}; what it knows leads from "
        "there to the price."
    )
    rows = [
        {"What": each["title"], "Value": _short(each["value"]), "Adds": each["contribution"]}
        for each in told["contributions"]
    ]
    st.dataframe(rows, hide_index=True, column_config={"Adds": st.column_config.NumberColumn(format="dollar")})


def _short(value: float | str | None) -> str:
    """A feature's value for people."""
    if value is None:
        return "not known"
    return _spoken(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
