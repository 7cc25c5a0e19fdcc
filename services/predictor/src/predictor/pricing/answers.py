"""The bodies of answers with prices and explanations. `predictor.http.schemas` describes them to clients.

They are plain dictionaries, because validating an answer would take longer than pricing a listing.
"""

from __future__ import annotations

from typing import TypedDict, final

from core.model.estimates import Estimate, EstimateColumns


class AnswerIdentity(TypedDict):
    """The request and the model that answered it."""

    request_id: str
    model_name: str
    model_version: str


@final
class PriceAnswer(AnswerIdentity, Estimate):
    """Answer of `POST /predict` for one listing."""


@final
class PricesAnswer(AnswerIdentity, EstimateColumns):
    """Answer of `POST /predict` for a list, in the order of its listings."""


class FeatureContribution(TypedDict):
    """The contribution of one feature to a price."""

    feature: str
    title: str
    value: float | str | None  # as the model sees it; of a categorical feature its name; None if unknown
    shap_value: float  # of the logarithm of the price
    contribution: float  # dollars


class ExplainedEstimate(Estimate):
    """A price with the contributions of all features to it, largest first. They add up with the base value."""

    base_value: float  # dollars
    contributions: list[FeatureContribution]


class ExplanationAnswer(AnswerIdentity, ExplainedEstimate):
    """Answer of `POST /explain` for one listing."""


class ExplanationsAnswer(AnswerIdentity):
    """Answer of `POST /explain` for a list, in the order of its listings."""

    explanations: list[ExplainedEstimate]
