"""An estimate on the page `Price`: the price with its prediction interval, and the reasons for it."""

from __future__ import annotations

import streamlit as st

from ui import charts
from ui.predictor import Json
from ui.words import dollars, escaped, feature_value, plain

_IN_WORDS = 3  # contributions that get a sentence


def show_price(answer: Json) -> None:
    """Show price, prediction interval, and what identifies the answer."""
    with st.container(border=True):
        st.metric("Estimated price", dollars(answer["price"]))
        if answer.get("low") is not None:  # missing in answers of an earlier release
            low, high = (plain(dollars(answer[end])) for end in ("low", "high"))
            st.markdown(f"Four of five such houses have prices from {low} to {high}.")
            st.altair_chart(charts.interval(answer), width="stretch")
        st.caption(
            f"Model **{answer['model_name']}**, version **{answer['model_version']}** "
            f"· request id `{answer['request_id']}`"
        )


def show_reasons(answer: Json) -> None:
    """Show the contributions in words, as a waterfall, and in a table. With the base value, their sum is the price."""
    st.header("Why this price")
    st.markdown(
        f"Without any information on the house, the model expects a price of {plain(dollars(answer['base_value']))}. "
        "Each value below adds to it, and the sum is the estimated price."
    )
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences(answer)))
    st.altair_chart(charts.waterfall(answer), width="stretch")
    rows = [
        {"Feature": each["title"], "Value": feature_value(each), "Adds": each["contribution"]}
        for each in answer["contributions"]
    ]
    with st.expander("All values as a table"):
        st.dataframe(rows, hide_index=True, column_config={"Adds": st.column_config.NumberColumn(format="dollar")})


def sentences(answer: Json) -> list[str]:
    """The largest contributions in words, as Markdown."""
    return [
        escaped(each["title"])
        + (f" **{escaped(value)}** " if (value := feature_value(each)) else " ")
        + ("adds " if each["contribution"] >= 0 else "takes off ")
        + plain(dollars(abs(each["contribution"])))
        for each in answer["contributions"][:_IN_WORDS]
        if round(each["contribution"])
    ]
