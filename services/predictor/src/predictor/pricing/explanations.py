"""Explanations of prices: the contribution of each feature, with a title that a reader understands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.features.columns import CATEGORICAL, FEATURES
from core.listing.schema import RawListing
from core.model.estimates import Explanation
from predictor.pricing.answers import ExplainedEstimate, FeatureContribution
from predictor.pricing.listing import Listing

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


def explanations(explanation: Explanation, listings: Sequence[RawListing]) -> list[ExplainedEstimate]:
    """One explanation per listing: price, interval, base value, and the contributions of all features by size."""
    columns = (explanation.features, explanation.shap, explanation.contributions)
    result: list[ExplainedEstimate] = []
    for at, listing in enumerate(listings):
        features = zip(FEATURES, *(column[at].tolist() for column in columns), strict=True)
        contributions: list[FeatureContribution] = [
            {
                "feature": name,
                "title": TITLES[name],
                "value": _value(listing, name, value),
                "shap_value": shap_value,
                "contribution": contribution,
            }
            for name, value, shap_value, contribution in features
        ]
        contributions.sort(key=lambda each: -abs(each["contribution"]))
        base_value = float(explanation.base_values[at])
        estimate = explanation.estimates.row(at)
        result.append({**estimate, "base_value": base_value, "contributions": contributions})
    return result


def _value(listing: RawListing, name: str, value: float) -> float | str | None:
    """The feature's value as the model sees it; for a categorical feature its name instead of its code."""
    if not math.isfinite(value):
        return None
    return str(listing.get(name)) if name in CATEGORICAL else value
