"""The section *Similar sales* on the page `Price`: a table with the reasons, and a map by ZIP code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from ui import sales_map, tables
from ui.language import _, dollars, number, percent
from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError
from ui.texts import marked
from ui.words import escaped, readable

FIELDS = ("zip_code", "city", "state", "house_size", "acre_lot", "bed", "bath")  # that the choice needs
_SAME = {"zip_code": marked("same ZIP code"), "city": marked("same city"), "state": marked("same state")}
_CHANGES = {
    "bed": marked("bedrooms {change}"),
    "bath": marked("bathrooms {change}"),
    "acre_lot": marked("lot {change} acres"),
}


@dataclass(frozen=True)
class FoundSales:
    """Similar sales, or why there are none: `sales` is None if the model has none, or if the request failed."""

    sales: list[Json] | None
    error: PredictorError | None = None


def find(predictor: Predictor, listing: Json) -> FoundSales:
    """Ask for the sales that are similar to a listing. A failure does not take the price from the visitor."""
    try:
        return FoundSales(predictor.comparables({name: listing[name] for name in FIELDS if name in listing}))
    except PredictorError as error:
        return FoundSales(None, error)


def show(similar: FoundSales, listing: Json) -> None:
    """Show the sales. Nothing is shown for a predictor or a model of an earlier release."""
    if similar.sales is None and similar.error is None:
        return
    st.header(_("Similar sales"))
    if similar.error:
        trouble(similar.error)
    elif not similar.sales:
        st.caption(
            _(
                "The model knows no sale in this place: enter a state, or another ZIP code. A model that was trained "
                "before the first sold listings arrived knows no sale at all."
            )
        )
    else:
        st.markdown(
            _(
                "Sold houses that the model was trained on: those in the same ZIP code first, then in the same city, "
                "then in the same state."
            )
        )
        house_size = listing.get("house_size")
        tables.show([_row(sale, house_size) for sale in similar.sales], {_("Price"): dollars})
        chart = sales_map.chart(similar.sales, _zip_code(listing))
        if chart:
            st.altair_chart(chart, width="stretch")
            places = "; ".join(group.text for group in sales_map.by_zip_code(similar.sales))
            st.caption(_("Each point is the centre of a ZIP code. {places}", places=escaped(places)))


def _zip_code(listing: Json) -> str | None:
    """The five digits of a listing's ZIP code, which may have four more; None if it is unknown."""
    digits = str(listing.get("zip_code", "")).partition("-")[0].strip()
    return digits.zfill(5) if digits.isdecimal() else None


def _row(sale: Json, house_size: float | None) -> dict[str, Any]:
    return {
        _("Price"): sale["price"],
        _("Why it is similar"): ", ".join(reasons(sale, house_size)),
        _("Sold on"): sale["sold_on"] or _("unknown"),
        _("Living area (square feet)"): readable(sale["house_size"]),
        _("Lot (acres)"): readable(sale["acre_lot"]),
        _("Bedrooms"): readable(sale["bed"]),
        _("Bathrooms"): readable(sale["bath"]),
        _("ZIP code"): sale["zip_code"] or _("unknown"),
        _("City"): sale["city"] or _("unknown"),
    }


def reasons(sale: Json, house_size: float | None) -> list[str]:
    """The common place, and the differences from the house. Fields without a difference are left out."""
    parts = [_(_SAME[sale["same"]])]
    for each in sale["differences"]:
        field, difference = each["field"], each["difference"]
        if field == "house_size" and difference is not None and house_size:
            share = difference / house_size
            if round(share, 2) == 0:
                parts.append(_("same living area"))
            else:
                text = marked("living area {share} larger") if share > 0 else marked("living area {share} smaller")
                parts.append(_(text, share=percent(abs(share), 0)))
        elif field in _CHANGES and difference:
            digits = next((digits for digits in (0, 1, 2) if round(difference, digits) == round(difference, 2)), 2)
            if round(difference, 2):
                sign = "+" if difference > 0 else "-"
                parts.append(_(_CHANGES[field], change=f"{sign}{number(abs(difference), digits)}"))
    return parts
