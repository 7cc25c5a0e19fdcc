"""The page `Price`: estimates the price of one house, with a form built from the predictor's schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import streamlit as st

from ui import estimate, other_values, places, question_link, similar_sales, sold
from ui.fields import OLDEST, example, is_whole, kinds, limit, titles
from ui.language import _
from ui.notices import invalid, trouble
from ui.predictor import InvalidValuesError, Json, Predictor, PredictorError
from ui.similar_sales import FoundSales
from ui.words import readable

ROWS = (("state", "city", "zip_code"), ("house_size", "acre_lot"), ("bed", "bath"), ("status", "prev_sold_date"))
_ESTIMATE = "estimate"  # in the session's state, so that the form below the estimate does not make it disappear


@dataclass(frozen=True)
class PricedListing:
    """A listing as it was sent, the answer to it, and similar sales."""

    listing: Json
    answer: Json
    similar: FoundSales | None = None  # None in a session that began with an earlier release


def show(predictor: Predictor) -> None:
    """Show the form, and the estimate below it."""
    st.title(_("What is the house worth?"))
    st.caption(_("The form holds an example: change the values that you know, and clear the others."))
    try:
        schema = predictor.schema()
    except PredictorError as error:
        trouble(error)
        return
    fields: Json = schema["properties"]
    priced: PricedListing | None = st.session_state.get(_ESTIMATE)
    with st.container(key="screen-only-search"):  # print.css leaves it out on paper
        places.show(predictor)
    with st.form("listing"):
        listing = _fields(fields, priced.listing if priced else question_link.read(fields) or _example(fields))
        submitted = st.form_submit_button(_("Estimate the price"), type="primary", icon=":material/sell:")
    if submitted:
        priced = _estimate(predictor, {name: value for name, value in listing.items() if value is not None}, fields)
        st.session_state[_ESTIMATE] = priced
        if priced:
            question_link.write(priced.listing)
    if priced:
        estimate.show_price(priced.answer)
        feedback = schema.get("$defs", {}).get("Feedback", {})  # missing in answers of an earlier release
        with st.container(key="screen-only-forms"):
            sold.show(predictor, priced.answer["request_id"], feedback.get("properties", {}).get("price", {}))
            other_values.show(predictor, priced.listing, priced.answer["price"], fields)
        estimate.show_reasons(priced.answer)
        with st.container(key="screen-only-sales"):
            if priced.similar:
                similar_sales.show(priced.similar, priced.listing)


def _example(fields: Json) -> Json:
    return {name: value for name, field in fields.items() if (value := example(field)) is not None}


def _fields(fields: Json, first: Json) -> Json:
    """Show an input for every field of the schema, with its first value. Fields outside of `ROWS` are under *More*."""
    listing: Json = {}
    for row in ROWS:
        names = [name for name in row if name in fields]
        for name, column in zip(names, st.columns(max(len(names), 1)), strict=False):
            with column:
                listing[name] = _field(name, fields[name], first.get(name))
    rest = [name for name in fields if name not in listing]
    if rest:
        with st.expander(_("More")):
            for name, column in zip(rest, st.columns(len(rest)), strict=True):
                with column:
                    listing[name] = _field(name, fields[name], first.get(name))
    return listing


def _field(name: str, field: Json, first: Any) -> Any:
    """Show one input. The field's schema sets its kind.

    The first value is set in the session's state, because users can clear only inputs that have no default.
    """
    title, accepted, whole = _(field.get("title", name)), kinds(field), is_whole(field)
    if "date" in accepted and first is not None:
        first = date.fromisoformat(first)
    st.session_state.setdefault(name, first)
    shared: Json = {"key": name, "placeholder": _("unknown")}
    if "known" in field:
        return st.selectbox(title, field["known"], None, readable, accept_new_options=True, **shared)
    if "date" in accepted:
        day = st.date_input(title, None, min_value=OLDEST, max_value="today", key=name)
        return day.isoformat() if isinstance(day, date) else None
    if "string" in accepted:
        return st.text_input(title, None, **shared) or None
    least, most = limit(field, "minimum"), limit(field, "maximum")
    return st.number_input(title, least, most, value=None, step=1 if whole else 0.01, **shared)


def _estimate(predictor: Predictor, listing: Json, fields: Json) -> PricedListing | None:
    """Ask for a price. None, and a notice on the page, if there is none."""
    try:
        with st.spinner(_("Waiting for the predictor")):
            return PricedListing(listing, predictor.explain(listing), similar_sales.find(predictor, listing))
    except InvalidValuesError as error:
        invalid(error, titles(fields))
    except PredictorError as error:
        trouble(error)
    return None
