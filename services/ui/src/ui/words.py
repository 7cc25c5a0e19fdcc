"""Formats values for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def readable(value: float | str | None) -> str:
    """A value of a listing or of a feature: `for_sale` becomes `For sale`; names of places do not change."""
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return value.replace("_", " ").capitalize() if "_" in value or value.islower() else value
    return f"{value:.2f}".rstrip("0").rstrip(".")


def feature_value(contribution: Mapping[str, Any]) -> str:
    """The value of a feature in an explanation; empty for encodings, whose numbers mean nothing to people."""
    feature, value = contribution["feature"], contribution["value"]
    if feature.endswith("_premium") or feature == "hedonic":
        return ""
    if feature == "zip_code" and value is not None:
        return f"{int(value):05d}"
    return readable(value)


def dollars(amount: float) -> str:
    """An amount of US dollars without cents. In Markdown, use `plain` on it."""
    return f"${amount:,.0f}"


def plain(text: str) -> str:
    """Text for Markdown, with escaped dollar signs: Streamlit would read them as the start of a formula."""
    return text.replace("$", r"\$")


def escaped(text: str) -> str:
    """Text of a visitor or of a model, shown as it is: without Markdown, HTML, links or formulas."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()<>#+-.!|~$:" else character for character in text)
