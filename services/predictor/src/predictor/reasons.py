"""Explanations in the words of the field: what `POST /explain` says of each price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.bundle import Explanation
from core.features import CATEGORICAL, FEATURES
from predictor.listing import Listing

_DERIVED = {
    "size_per_room": "Living area per room (square feet)",
    "bath_per_bed": "Bathrooms per bedroom",
    "lot_coverage": "Living area as a share of the lot",
    "years_since_sale": "Years since the last sale",
    "state_premium": "Price level of the state",
    "city_premium": "Price level of the city",
    "zip_premium": "Price level of the ZIP code",
    "city_rows": "Known sales in the city",
    "zip_rows": "Known sales in the ZIP code",
    "broker_premium": "Price level of the broker",
    "broker_rows": "Known sales of the broker",
    "hedonic": "Size, place and status together (hedonic regression)",
}
TITLES = {name: field.title or name for name, field in Listing.model_fields.items()} | _DERIVED


def reasons(explanation: Explanation, listings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each listing its price and range, base value and the contributions of all features, the largest first."""
    columns = (explanation.features, explanation.shap, explanation.contributions)
    told = []
    for at, listing in enumerate(listings):
        each = zip(FEATURES, *(column[at].tolist() for column in columns), strict=True)
        contributions = [
            {
                "feature": name,
                "title": TITLES[name],
                "value": _value(listing, name, value),
                "shap_value": shap_value,
                "contribution": contribution,
            }
            for name, value, shap_value, contribution in each
        ]
        contributions.sort(key=lambda one: -abs(one["contribution"]))
        base_value = float(explanation.base_values[at])
        told.append(explanation.estimates.row(at) | {"base_value": base_value, "contributions": contributions})
    return told


def _value(listing: Mapping[str, Any], name: str, value: float) -> float | str | None:
    """The model's value; of a category its name, as its number says nothing."""
    if not math.isfinite(value):
        return None
    return str(listing[name]) if name in CATEGORICAL else value
