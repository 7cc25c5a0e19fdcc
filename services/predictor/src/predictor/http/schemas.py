"""Schemas of the answers, for the OpenAPI document."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from core.stores.registry import ModelVersion

_LOW = (
    "Lower end of the prediction interval, in US dollars. The interval from `low` to `high` contains the true price of "
    "four of five such houses (80 %). Null if the model has no prediction intervals."
)
_HIGH = "Upper end of the prediction interval, in US dollars. Null if the model has no prediction intervals."


class Price(BaseModel):
    """Answer for one listing."""

    request_id: str
    model_name: str
    model_version: str
    price: float = Field(description="US dollars.", examples=[243210.55])
    low: float | None = Field(description=_LOW, examples=[196270.91])
    high: float | None = Field(description=_HIGH, examples=[287961.29])


class Prices(BaseModel):
    """Answer for a list of listings."""

    request_id: str
    model_name: str
    model_version: str
    prices: list[float] = Field(description="US dollars, in the order of the listings.")
    low: list[float] | None = Field(description=f"One value per price. {_LOW}")
    high: list[float] | None = Field(description=f"One value per price. {_HIGH}")


class Contribution(BaseModel):
    """The contribution of one feature of the model to a price."""

    feature: str = Field(examples=["house_size"])
    title: str = Field(examples=["Living area (square feet)"])
    value: float | str | None = Field(
        description="Value of the feature as the model sees it, or name of the category. Null if unknown.",
        examples=[1276.0],
    )
    shap_value: float = Field(description="Exact SHAP value, in logarithms of the price.", examples=[-0.1284])
    contribution: float = Field(description="US dollars.", examples=[-36020.4])


class PriceExplanation(BaseModel):
    """Explanation of a price: the base value plus all contributions gives the price."""

    price: float = Field(description="US dollars; same value as from `/predict`.", examples=[243210.55])
    low: float | None = Field(description=_LOW, examples=[196270.91])
    high: float | None = Field(description=_HIGH, examples=[287961.29])
    base_value: float = Field(
        description="US dollars: exp of the model's expected logarithm of a price.", examples=[279230.95]
    )
    contributions: list[Contribution] = Field(description="One per feature of the model, largest first.")


class ExplainedPrice(PriceExplanation):
    """Answer for one listing."""

    request_id: str
    model_name: str
    model_version: str


class ExplainedPrices(BaseModel):
    """Answer for a list of listings."""

    request_id: str
    model_name: str
    model_version: str
    explanations: list[PriceExplanation] = Field(description="In the order of the listings.")


class Detail(BaseModel):
    """Cause of an error, and what to do."""

    detail: str


class FieldError(BaseModel):
    """One invalid value."""

    loc: list[str | int] = Field(examples=[["body", 0, "bed"]])
    msg: str = Field(examples=["Input should be a valid number"])
    type: str = Field(examples=["float_type"])
    input: Any = None


class InvalidDetail(BaseModel):
    """All invalid values, up to one hundred."""

    detail: list[FieldError]


class KnownPlace(BaseModel):
    """A place that the model was trained on."""

    state: str = Field(examples=["Massachusetts"])
    city: str = Field(examples=["Agawam"])
    zip_code: str | None = Field(description="Null for a city without a known ZIP code.", examples=["01001"])
    sales: int = Field(description="Listings of this place among those that the model was trained on.", examples=[18])


class KnownPlaces(BaseModel):
    """Places, those with the most sales first."""

    places: list[KnownPlace]


class SaleDifference(BaseModel):
    """One field of a listing compared with that of a sale. The distance of the sale is the sum of the steps."""

    field: str = Field(examples=["house_size"])
    difference: float | None = Field(
        description="Value of the sale minus that of the listing; for `sold_on` the years from the newest sale of the "
        "model to this one. Null if the sale does not have the field.",
        examples=[-124.0],
    )
    steps: float = Field(description="Part of the distance.", examples=[0.56])


class SimilarSale(BaseModel):
    """A sale that is similar to a listing."""

    price: float = Field(description="US dollars.", examples=[251000])
    sold_on: date | None = Field(examples=["2021-06-30"])
    house_size: float | None = Field(description="Square feet.", examples=[1152])
    acre_lot: float | None = Field(description="Acres.", examples=[0.3])
    bed: float | None = Field(examples=[3])
    bath: float | None = Field(examples=[2])
    zip_code: str | None = Field(examples=["01001"])
    city: str | None = Field(examples=["Agawam"])
    state: str | None = Field(examples=["Massachusetts"])
    same: Literal["zip_code", "city", "state"] = Field(description="The narrowest place that sale and listing share.")
    distance: float = Field(description="0 for an equal house that was sold last.", examples=[1.02])
    differences: list[SaleDifference] = Field(description="One per known field of the listing, and `sold_on`.")


class SimilarSales(BaseModel):
    """Similar sales: those in the same ZIP code first, then city, then state; each by distance."""

    model_name: str
    model_version: str
    sales: list[SimilarSale]


class Health(BaseModel):
    """Answer to a probe."""

    status: str


class RefusedVersion(BaseModel):
    """A version that had the alias but failed a check, so that it does not serve."""

    version: str
    run_id: str
    reason: str
    refused_at: datetime


class Challenger(BaseModel):
    """The model that prices a share of the requests for comparison. Clients do not see its prices."""

    share: float = Field(description="Share of the requests, 0 to 1.")
    alias: str
    version: str | None = Field(description="Null if no version is compared.")
    run_id: str | None
    loaded_at: datetime | None
    refused: list[RefusedVersion]
    problem: str | None = Field(description="Why no version is compared, or why the last listings failed.")


class Model(BaseModel):
    """The model that answers."""

    name: str
    version: str
    alias: str
    run_id: str
    loaded_at: datetime
    fingerprint: str = Field(description="Fingerprint of the features that the model was trained with.")
    refused: list[RefusedVersion]
    stale: bool = Field(description="True if the registry does not confirm this version as the champion at present.")
    problem: str | None = Field(description="Why the model is stale.")
    shadow: Challenger | None = Field(description="Null if `fastapi.config.shadowShare` is 0.")


class ServedBundle(BaseModel):
    """The model that a pod serves, for other pods."""

    version: ModelVersion
    files: list[str]


class ReloadResult(BaseModel):
    """Result of polling the registry."""

    outcome: Literal["current", "loaded", "absent", "refused", "unreachable", "failed"] = Field(
        description="`current` and `loaded`: the champion answers. Otherwise `problem` has the cause."
    )
    model_version: str | None = Field(description="Version that answers now. Null until a model is loaded.")
    problem: str | None = Field(description="Why the champion does not answer.")


class Version(BaseModel):
    """The code of the service, its image, and its model."""

    version: str = Field(description="Version of the service.")
    commit: str = Field(
        description="Last Git commit that changed the image; `-dirty`: with uncommitted changes; `unknown`: the "
        "deployment does not set it."
    )
    image_tag: str = Field(description="Empty if the service does not run in an image.")
    image_digest: str = Field(description="Empty if the image has no digest.")
    model_name: str | None = Field(description="Null until a model is loaded.")
    model_version: str | None = Field(description="Null until a model is loaded.")


class LiveError(BaseModel):
    """Error of a model version, by the true prices from feedback."""

    model_version: str
    count: int = Field(description="Listings with a true price.")
    mae: float = Field(description="Mean absolute error, in US dollars.")
    median_ape: float = Field(description="Median of the absolute errors, as shares of the true prices.")
    coverage: float | None = Field(
        description="Share of the true prices from `low` to `high`. Null without prediction intervals."
    )


class InvalidPrices(BaseModel):
    """Rows of a table of the ledger whose prices are beyond their limits. No other figure counts them."""

    source: str = Field(description="Table of the ledger.", examples=["feedback"])
    count: int


class StoredFeedback(BaseModel):
    """The stored feedback."""

    request_id: str
    position: int
    price: float = Field(description="True price that counts from now on, in US dollars.")


class BatchHistory(BaseModel):
    """The history of all batches."""

    batches: list[dict[str, Any]] = Field(
        description="In order of arrival, each with its decision, training and verdict (null if there is none)."
    )
    gaps: list[int] = Field(description="Numbers of missing batches: a later batch arrived, but these did not.")
    champions: list[dict[str, Any]] = Field(
        description="Moves of the champion's alias in order, by promotion or rollback, each with its reason."
    )
    live_errors: list[LiveError] = Field(description="Per model version, from the last 100,000 valid true prices.")
    invalid_prices: list[InvalidPrices] = Field(
        description="Per table with prices. Empty until the pipeline has migrated the ledger of an earlier release."
    )
