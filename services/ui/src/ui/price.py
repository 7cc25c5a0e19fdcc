"""The page `Price`: estimates the price of one house, with a form built from the predictor's schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import streamlit as st

from ui import sold
from ui.notices import invalid, trouble
from ui.predictor import InvalidValuesError, Json, Predictor, PredictorError

ROWS = (("state", "city", "zip_code"), ("house_size", "acre_lot"), ("bed", "bath"), ("status", "prev_sold_date"))
OLDEST = date(1900, 1, 1)
_ESTIMATE = "estimate"  # in the session's state, so that the form below the estimate does not make it disappear


@dataclass(frozen=True)
class PricedListing:
    """A listing as it was sent, and the answer to it."""

    listing: Json
    answer: Json


def show(predictor: Predictor) -> None:
    """Show the form, and the estimate below it."""
    st.title("What is the house worth?")
    st.caption("The form holds an example: change the values that you know, and clear the others.")
    try:
        schema = predictor.schema()
    except PredictorError as error:
        trouble(error)
        return
    fields: Json = schema["properties"]
    estimate: PricedListing | None = st.session_state.get(_ESTIMATE)
    with st.form("listing"):
        listing = _fields(fields, estimate.listing if estimate else _example(fields))
        submitted = st.form_submit_button("Estimate the price", type="primary", icon=":material/sell:")
    if submitted:
        estimate = _estimate(predictor, {name: value for name, value in listing.items() if value is not None}, fields)
        st.session_state[_ESTIMATE] = estimate
    if estimate:
        _price(estimate.answer)
        feedback = schema.get("$defs", {}).get("Feedback", {})  # missing in answers of an earlier release
        sold.show(predictor, estimate.answer["request_id"], feedback.get("properties", {}).get("price", {}))
        _explanation(estimate.answer)


def _example(fields: Json) -> Json:
    return {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}


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
        with st.expander("More"):
            for name, column in zip(rest, st.columns(len(rest)), strict=True):
                with column:
                    listing[name] = _field(name, fields[name], first.get(name))
    return listing


def _field(name: str, field: Json, first: Any) -> Any:
    """Show one input. The field's schema sets its kind.

    The first value is set in the session's state, because users can clear only inputs that have no default.
    """
    title, example = field.get("title", name), next(iter(field.get("examples", [])), None)
    variants = field.get("anyOf", [field])
    kinds = {variant.get("format", variant.get("type")) for variant in variants}
    whole = isinstance(example, int)
    if "date" in kinds and first is not None:
        first = date.fromisoformat(first)
    st.session_state.setdefault(name, first)
    shared: Json = {"key": name, "placeholder": "unknown"}
    if "known" in field:
        return st.selectbox(title, field["known"], None, _readable, accept_new_options=True, **shared)
    if "date" in kinds:
        day = st.date_input(title, None, min_value=OLDEST, max_value="today", key=name)
        return day.isoformat() if isinstance(day, date) else None
    if "string" in kinds:
        return st.text_input(title, None, **shared) or None
    least, most = (_limit(variants, end, whole) for end in ("minimum", "maximum"))
    return st.number_input(title, least, most, value=None, step=1 if whole else 0.01, **shared)


def _limit(variants: list[Json], end: str, whole: bool) -> float | None:
    """One end of the range of a number, in the type of the input; None without a limit."""
    limit = next((variant[end] for variant in variants if end in variant), None)
    return limit if limit is None else int(limit) if whole else float(limit)


def _readable(category: str) -> str:
    """A category for people: `for_sale` becomes `For sale`; names of states do not change."""
    return category.replace("_", " ").capitalize() if "_" in category or category.islower() else category


def _estimate(predictor: Predictor, listing: Json, fields: Json) -> PricedListing | None:
    """Ask for a price. None, and a notice on the page, if there is none."""
    try:
        with st.spinner("Waiting for the predictor"):
            return PricedListing(listing, predictor.explain(listing))
    except InvalidValuesError as error:
        invalid(error, {name: field.get("title", name) for name, field in fields.items()})
    except PredictorError as error:
        trouble(error)
    return None


def _price(answer: Json) -> None:
    with st.container(border=True):
        st.metric("Estimated price", f"${answer['price']:,.0f}")
        if answer.get("low") is not None:  # missing in answers of an earlier release
            st.markdown(
                f"Four of five such houses have prices from \\${answer['low']:,.0f} to \\${answer['high']:,.0f}."
            )
        st.caption(
            f"Model **{answer['model_name']}**, version **{answer['model_version']}** "
            f"· request id `{answer['request_id']}`"
        )


def _explanation(answer: Json) -> None:
    """Show the contributions in a table, the largest first. With the base value, they add up to the price."""
    st.subheader("Why this price")
    st.markdown(
        f"Without any information on the house, the model expects a price of \\${answer['base_value']:,.0f}. Each "
        "value below adds to it, and the sum is the estimated price."
    )
    rows = [
        {"Feature": each["title"], "Value": _short(each["value"]), "Adds": each["contribution"]}
        for each in answer["contributions"]
    ]
    st.dataframe(rows, hide_index=True, column_config={"Adds": st.column_config.NumberColumn(format="dollar")})


def _short(value: float | str | None) -> str:
    """The value of a feature, formatted for people."""
    if value is None:
        return "unknown"
    return _readable(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
