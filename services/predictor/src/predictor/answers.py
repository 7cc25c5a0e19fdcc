"""The shapes of the answers, which OpenAPI shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

_LOW = "US dollars: four of five such houses (80 %) have prices from `low` to `high`; null if the model has no ranges"
_HIGH = "US dollars; null if the model has no ranges"


class Price(BaseModel):
    """The answer for one listing."""

    request_id: str
    model_name: str
    model_version: str
    price: float = Field(description="US dollars", examples=[243210.55])
    low: float | None = Field(description=_LOW, examples=[196270.91])
    high: float | None = Field(description=_HIGH, examples=[287961.29])


class Prices(BaseModel):
    """The answer for a list of listings."""

    request_id: str
    model_name: str
    model_version: str
    prices: list[float] = Field(description="US dollars, in the order of the listings")
    low: list[float] | None = Field(description=f"of each price; {_LOW}")
    high: list[float] | None = Field(description=f"of each price; {_HIGH}")


class Contribution(BaseModel):
    """What one feature of the model adds to a price."""

    feature: str = Field(examples=["house_size"])
    title: str = Field(examples=["Living area (square feet)"])
    value: float | str | None = Field(
        description="as the model sees it, or the category's name; null where it is not known", examples=[1276.0]
    )
    shap_value: float = Field(description="exact, in logarithms of the price", examples=[-0.1284])
    contribution: float = Field(description="US dollars", examples=[-36020.4])


class Reasons(BaseModel):
    """Why a listing has its price: the base value and all contributions add up to it."""

    price: float = Field(description="US dollars; that of `/predict`", examples=[243210.55])
    low: float | None = Field(description=_LOW, examples=[196270.91])
    high: float | None = Field(description=_HIGH, examples=[287961.29])
    base_value: float = Field(
        description="US dollars: exp of the model's expected logarithm of a price", examples=[279230.95]
    )
    contributions: list[Contribution] = Field(description="of every feature of the model, the largest first")


class Explanation(Reasons):
    """The answer for one listing."""

    request_id: str
    model_name: str
    model_version: str


class Explanations(BaseModel):
    """The answer for a list of listings."""

    request_id: str
    model_name: str
    model_version: str
    explanations: list[Reasons] = Field(description="in the order of the listings")


class Detail(BaseModel):
    """Why a request was not answered."""

    detail: str


class FieldError(BaseModel):
    """One value that breaks a rule."""

    loc: list[str | int] = Field(examples=[["body", 0, "bed"]])
    msg: str = Field(examples=["Input should be a valid number"])
    type: str = Field(examples=["float_type"])
    input: Any = None


class InvalidDetail(BaseModel):
    """Every value that breaks a rule (of many, the first hundred)."""

    detail: list[FieldError]


class Alive(BaseModel):
    """A probe's answer."""

    status: str


class Refused(BaseModel):
    """A version that the alias named and that may not serve."""

    version: str
    run_id: str
    reason: str
    refused_at: datetime


class Challenger(BaseModel):
    """The model that prices a share of the requests beside the one that answers, unseen."""

    share: float = Field(description="of the requests, 0 to 1")
    alias: str
    version: str | None = Field(description="null where none is compared")
    run_id: str | None
    loaded_at: datetime | None
    refused: list[Refused]
    problem: str | None = Field(description="why none is compared, or the last listings were not")


class Model(BaseModel):
    """The model that answers."""

    name: str
    version: str
    alias: str
    run_id: str
    loaded_at: datetime
    fingerprint: str = Field(description="of the features that the model was trained with")
    refused: list[Refused]
    stale: bool = Field(description="the registry does not confirm this version as the champion at present")
    problem: str | None = Field(description="why it is stale")
    shadow: Challenger | None = Field(description="null where `fastapi.config.shadowShare` is 0")


class Reloaded(BaseModel):
    """What came of a look at the registry."""

    outcome: Literal["current", "loaded", "absent", "refused", "unreachable", "failed"] = Field(
        description="`current` and `loaded`: the champion answers; else `problem` says why it does not"
    )
    model_version: str | None = Field(description="that answers now; null until a model is loaded")
    problem: str | None = Field(description="why it is not the champion")


class Version(BaseModel):
    """What runs: the code, the image that it is in, and the model that it serves."""

    version: str = Field(description="of the service")
    commit: str = Field(
        description="of Git, the last one that changed the image; `-dirty`: with changes; `unknown`: not told"
    )
    image_tag: str = Field(description="empty where the service runs outside of an image")
    image_digest: str = Field(description="empty where only the tag identifies the image")
    model_name: str | None = Field(description="null until a model is loaded")
    model_version: str | None = Field(description="null until a model is loaded")


class LiveError(BaseModel):
    """How far the prices of a model version were from those that were told later."""

    model_version: str
    count: int = Field(description="listings whose true price is known")
    mae: float = Field(description="US dollars; mean absolute error")
    median_ape: float = Field(description="median of the absolute errors as shares of the true prices")
    coverage: float | None = Field(description="share of true prices from `low` to `high`; null without ranges")


class Noted(BaseModel):
    """Feedback that was taken."""

    request_id: str
    position: int
    price: float = Field(description="US dollars; that counts from now on")


class History(BaseModel):
    """What happened to every batch."""

    batches: list[dict[str, Any]] = Field(
        description="in the order in which they came, each with its decision, training and verdict (or null)"
    )
    gaps: list[int] = Field(description="numbers of batches that were never received though a later one was")
    champions: list[dict[str, Any]] = Field(
        description="every move of the champion's alias, in order: by a promotion or a rollback, and why"
    )
    live_errors: list[LiveError] = Field(description="of every model version, by the last 100,000 true prices")
