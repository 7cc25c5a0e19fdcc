"""The page `Price`: estimates the price of one house, with a form built from the predictor's schema."""

from __future__ import annotations

from datetime import date
from typing import Any

import streamlit as st

from ui.notices import trouble
from ui.predictor import InvalidListingError, Json, Predictor, PredictorError

ROWS = (("state", "city", "zip_code"), ("house_size", "acre_lot"), ("bed", "bath"), ("status", "prev_sold_date"))
OLDEST = date(1900, 1, 1)


def show(predictor: Predictor) -> None:
    """Show the form, and the estimate below it."""
    st.title("What is the house worth?")
    st.caption("The form holds an example: change the values that you know, and clear the others.")
    try:
        fields: Json = predictor.schema()["properties"]
    except PredictorError as error:
        trouble(error)
        return
    with st.form("listing"):
        listing = _fields(fields)
        submitted = st.form_submit_button("Estimate the price", type="primary", icon=":material/sell:")
    if submitted:
        _estimate(predictor, {name: value for name, value in listing.items() if value is not None}, fields)


def _fields(fields: Json) -> Json:
    """Show an input for every field of the schema. Fields that are not in `ROWS` are under *More*."""
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
    """Show one input. The field's schema sets its kind and its first value, the example.

    The example is set in the session's state, because users can clear only inputs that have no default.
    """
    title, example = field.get("title", name), next(iter(field.get("examples", [])), None)
    variants = field.get("anyOf", [field])
    kinds = {variant.get("format", variant.get("type")) for variant in variants}
    whole = isinstance(example, int)
    if "date" in kinds and example is not None:
        example = date.fromisoformat(example)
    st.session_state.setdefault(name, example)
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


def _estimate(predictor: Predictor, listing: Json, fields: Json) -> None:
    try:
        with st.spinner("Waiting for the predictor"):
            answer = predictor.explain(listing)
    except InvalidListingError as invalid:
        trouble(invalid)
        for name, rule in invalid.fields.items():
            st.markdown(f"- **{fields.get(name, {}).get('title', name)}**: {rule}")
        return
    except PredictorError as error:
        trouble(error)
        return
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
    _explanation(answer)


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
