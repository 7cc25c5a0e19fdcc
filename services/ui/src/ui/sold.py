"""The form *It sold for*: sends the true price of an estimate to the predictor."""

from __future__ import annotations

import streamlit as st

from ui.language import _, dollars
from ui.notices import invalid, trouble
from ui.predictor import InvalidValuesError, Json, Predictor, PredictorError
from ui.texts import marked
from ui.words import plain

TITLE = marked("It sold for")


def show(predictor: Predictor, request_id: str, field: Json) -> None:
    """Show the form, and the outcome below it.

    Args:
        predictor: stores the true price.
        request_id: of the estimate. It comes from the answer, never from the visitor, so that nobody can send a true
            price for the estimate of somebody else.
        field: JSON schema of the price; empty if the predictor is of an earlier release.
    """
    with st.form(f"sold {request_id}"):
        price = st.number_input(
            _(TITLE),
            _whole(field.get("minimum")),
            _whole(field.get("maximum")),
            value=None,
            step=1_000,
            placeholder=_("US dollars"),
            help=_limits(field),
            key=f"price {request_id}",  # the next estimate begins with an empty input
        )
        submitted = st.form_submit_button(_("Send the true price"), icon=":material/task_alt:")
    if submitted:
        _send(predictor, request_id, price)


def _send(predictor: Predictor, request_id: str, price: float | None) -> None:
    if price is None:
        st.warning(_("Enter the price for which the house was sold, in US dollars."), icon=":material/warning:")
        return
    try:
        stored = predictor.feedback(request_id, price)
    except InvalidValuesError as error:
        invalid(error, {"price": TITLE})
    except PredictorError as error:
        trouble(error)
    else:
        st.success(
            _(
                "The true price {price} is stored for request `{request}`. The page *History* counts it under *Live "
                "accuracy*. To correct it, send another price.",
                price=plain(dollars(stored["price"])),
                request=stored["request_id"],
            ),
            icon=":material/task_alt:",
        )


def _limits(field: Json) -> str | None:
    if not field:
        return None
    least, most = _whole(field.get("minimum")), _whole(field.get("maximum"))
    return _("Price for which the house was sold, in US dollars: {least} to {most}.", least=least, most=most)


def _whole(limit: float | None) -> int | None:
    return None if limit is None else int(limit)
