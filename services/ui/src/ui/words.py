"""Words for values of listings and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ui.language import _, number
from ui.texts import marked

# Features with a subject of their own in sentences. The others have their title and their value.
_SUBJECTS = {
    "house_size": marked("The living area of {value} square feet"),
    "acre_lot": marked("The lot of {value} acres"),
    "bed": marked("The number of bedrooms ({value})"),
    "bath": marked("The number of bathrooms ({value})"),
    "status": marked("The status ({value})"),
    "state": marked("The state ({value})"),
    "zip_code": marked("The ZIP code ({value})"),
    "years_since_sale": marked("The time since the last sale ({value} years)"),
    "state_premium": marked("The price level of the state"),
    "city_premium": marked("The price level of the city"),
    "zip_premium": marked("The price level of the ZIP code"),
    "broker_premium": marked("The price level of the broker"),
    "city_rows": marked("The number of known sales in the city ({value})"),
    "zip_rows": marked("The number of known sales in the ZIP code ({value})"),
    "broker_rows": marked("The number of known sales of the broker ({value})"),
    "hedonic": marked("The combination of size, place and status"),
}


def readable(value: float | str | None) -> str:
    """A value of a listing or of a feature: `for_sale` becomes `For sale`; names of places do not change."""
    if value is None:
        return _("unknown")
    if isinstance(value, str):
        return _(value.replace("_", " ").capitalize()) if "_" in value or value.islower() else value
    digits = next(digits for digits in (0, 1, 2) if digits == 2 or round(value, 2) == round(value, digits))
    return number(value, digits)


def feature_value(contribution: Mapping[str, Any]) -> str:
    """The value of a feature in an explanation; empty for encodings, whose numbers mean nothing to people."""
    feature, value = contribution["feature"], contribution["value"]
    if feature.endswith("_premium") or feature == "hedonic":
        return ""
    if value is not None and feature == "zip_code":
        return f"{int(value):05d}"
    if value is not None and feature in ("street", "brokered_by"):
        return f"{int(value)}"  # an id, not a quantity
    return readable(value)


def subject(contribution: Mapping[str, Any]) -> str:
    """A feature with its value as the subject of a sentence, as Markdown."""
    value = feature_value(contribution)
    bold = f"**{escaped(value)}**" if value else ""
    template = _SUBJECTS.get(contribution["feature"])
    if template and contribution["value"] is not None:
        return _(template, value=bold)
    return f"{escaped(_(contribution['title']))} {bold}".rstrip()


def plain(text: str) -> str:
    """Text for Markdown, with escaped dollar signs: Streamlit would read them as the start of a formula."""
    return text.replace("$", r"\$")


def escaped(text: str) -> str:
    """Text of a visitor or of a model, shown as it is: without Markdown, HTML, links or formulas."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()<>#+-.!|~$:" else character for character in text)
