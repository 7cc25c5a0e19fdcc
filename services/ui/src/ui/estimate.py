"""An estimate on the page `Price`: the price with its prediction interval, and the reasons for it."""

from __future__ import annotations

import streamlit as st

from ui import charts, tables
from ui.language import _, dollars
from ui.predictor import Json
from ui.texts import marked
from ui.words import feature_value, plain, subject

_IN_WORDS = 3  # contributions that get a sentence
_ADDS, _TAKES = marked("{feature} adds {amount}"), marked("{feature} takes off {amount}")


def show_price(answer: Json) -> None:
    """Show price, prediction interval, and what identifies the answer."""
    with st.container(border=True):
        st.metric(_("Estimated price"), dollars(answer["price"]))
        if answer.get("low") is not None:  # missing in answers of an earlier release
            low, high = (plain(dollars(answer[end])) for end in ("low", "high"))
            st.markdown(_("Four of five such houses have prices from {low} to {high}.", low=low, high=high))
            st.altair_chart(charts.interval(answer), width="stretch")
        st.caption(
            _(
                "Model **{name}**, version **{version}** · request id `{request}`",
                name=answer["model_name"],
                version=answer["model_version"],
                request=answer["request_id"],
            )
        )


def show_reasons(answer: Json) -> None:
    """Show the contributions in words, as a waterfall, and in a table. With the base value, their sum is the price."""
    st.header(_("Why this price"))
    st.markdown(
        _(
            "Without any information on the house, the model expects a price of {price}. Each value below adds to it, "
            "and the sum is the estimated price.",
            price=plain(dollars(answer["base_value"])),
        )
    )
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences(answer)))
    st.altair_chart(charts.waterfall(answer), width="stretch")
    rows = [
        {_("Feature"): _(each["title"]), _("Value"): feature_value(each), _("Adds"): each["contribution"]}
        for each in answer["contributions"]
    ]
    with st.expander(_("All values as a table")):
        tables.show(rows, {_("Adds"): dollars})


def sentences(answer: Json) -> list[str]:
    """The largest contributions in words, as Markdown."""
    return [
        _(
            _ADDS if each["contribution"] >= 0 else _TAKES,
            feature=subject(each),
            amount=plain(dollars(abs(each["contribution"]))),
        )
        for each in answer["contributions"][:_IN_WORDS]
        if round(each["contribution"])
    ]
