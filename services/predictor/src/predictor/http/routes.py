"""Routes for prices, explanations, probes, and information about the service. Other modules do the work."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from core.listing.schema import MAX_NAME_LENGTH
from predictor.errors import NoModelError, TooLargeError
from predictor.http.auth import COMPARABLES
from predictor.http.bodies import read_body
from predictor.http.comparables_query import ComparablesQuery
from predictor.http.feedback import Feedback
from predictor.http.schemas import (
    BatchHistory,
    Challenger,
    Detail,
    ExplainedPrice,
    ExplainedPrices,
    Health,
    InvalidDetail,
    KnownPlace,
    KnownPlaces,
    Model,
    Price,
    Prices,
    SimilarSales,
    Version,
)
from predictor.pricing.comparables import ComparableSearch, ComparedListing
from predictor.pricing.listing import EXAMPLE, form_schema
from predictor.pricing.places import PlaceSearch
from predictor.pricing.price import Pricing
from predictor.record.shadow import Shadow

PREDICT, EXPLAIN = "/predict", "/explain"
INLINE_BYTES = 16 * 1024  # up to this size (some 50 listings), pricing takes less time than handing it to a thread

_SCHEMA = {**form_schema(), "$defs": {Feedback.__name__: Feedback.model_json_schema()}}

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/Listing"},
                        {"type": "array", "items": {"$ref": "#/components/schemas/Listing"}, "minItems": 1},
                    ]
                },
                "examples": {
                    "one": {"summary": "One listing", "value": EXAMPLE},
                    "list": {"summary": "A list of listings", "value": [EXAMPLE, {"state": "Massachusetts", "bed": 3}]},
                },
            }
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    408: {"model": Detail, "description": "The body did not arrive in time. `Retry-After` has the seconds to wait."},
    413: {"model": Detail, "description": "The request has too many listings or too many bytes."},
    422: {"model": InvalidDetail, "description": "The body is not valid. Each error has its field and its rule."},
    503: {
        "model": Detail,
        "description": "No model is loaded yet, or too many requests are in flight; the text has the cause. "
        "`Retry-After` has the seconds to wait.",
    },
}


@router.post(
    PREDICT,
    summary="Price one listing or a list of listings",
    openapi_extra=_BODY,
    responses={
        200: {"model": Price | Prices, "description": "One price for an object; prices in the same order for a list."},
        **_ERRORS,
    },
)
async def predict(request: Request) -> JSONResponse:
    """Unknown fields are ignored. Missing fields and nulls are allowed."""  # fast path for one listing: one_listing.py
    pricing: Pricing = request.app.state.pricing
    body = await _read_listings(request)
    arguments = (body, request.state.request_id)
    if len(body) <= INLINE_BYTES:
        return JSONResponse(pricing.answer(*arguments))
    async with request.app.state.pricing_threads:
        return JSONResponse(await run_in_threadpool(pricing.answer, *arguments))


@router.post(
    EXPLAIN,
    summary="Price and explain one listing or a short list of listings",
    openapi_extra=_BODY,
    responses={
        200: {
            "model": ExplainedPrice | ExplainedPrices,
            "description": "One explanation for an object; explanations in the same order for a list.",
        },
        **_ERRORS,
    },
)
async def explain(request: Request) -> JSONResponse:
    """Exact SHAP values in dollars. Takes the same listings as `/predict`, but fewer: one costs as much as hundreds."""
    pricing: Pricing = request.app.state.pricing
    body = await _read_listings(request)
    async with request.app.state.pricing_threads:
        return JSONResponse(await run_in_threadpool(pricing.explain, body, request.state.request_id))


async def _read_listings(request: Request) -> bytes:
    """The body of a request for prices. The prediction log also gets a request whose body is too large.

    Raises:
        TooLargeError: the body has more than `MAX_BODY_BYTES`.
    """
    began = time.perf_counter()
    try:
        return await read_body(request, request.app.state.settings.max_body_bytes)
    except TooLargeError as error:
        request.app.state.pricing.log_failure(began, request.state.request_id, b"", error)
        raise


@router.get("/health/live", summary="Whether the process works")
async def live() -> Health:
    """Depends on no other service."""
    return Health(status="alive")


@router.get(
    "/health/ready",
    summary="Whether a model is loaded",
    responses={503: {"model": Detail, "description": "No model is loaded yet, or the process is shutting down."}},
)
async def ready(request: Request) -> Health:
    """Ready as soon as a model is loaded, even while MLflow is away. Not ready while the process shuts down."""
    state = request.app.state.follower.state
    if request.app.state.ending:
        raise NoModelError("the process is shutting down: send requests to another pod")
    if state.model is None:
        raise NoModelError(state.problem or "no model is loaded yet")
    return Health(status="ready")


@router.get(
    "/model",
    summary="The model that answers, and the refused versions",
    responses={503: {"model": Detail, "description": "No model is loaded yet; the text has the cause."}},
)
async def model(request: Request) -> Model:
    """`stale` is true if the registry does not confirm this model at present. `problem` has the cause."""
    follower = request.app.state.follower
    state = follower.state
    if state.model is None:
        raise NoModelError(state.problem or "no model is loaded yet")
    return Model(
        name=state.model.version.name,
        version=state.model.version.version,
        alias=follower.alias,
        run_id=state.model.version.run_id,
        loaded_at=state.model.loaded_at,
        fingerprint=state.model.bundle.fingerprint,
        refused=[dataclasses.asdict(refusal) for refusal in state.refused],
        stale=state.stale,
        problem=state.problem,
        shadow=_challenger(request.app.state.shadow, state.model.version.version),
    )


def _challenger(shadow: Shadow | None, champion: str) -> Challenger | None:
    if shadow is None:
        return None
    state = shadow.follower.state
    loaded, problem = state.model, shadow.problem or state.problem
    if loaded and loaded.version.version == champion:
        loaded, problem = None, f"version {champion} is the champion now, so no version is compared with it"
    return Challenger(
        share=shadow.share,
        alias=shadow.follower.alias,
        version=loaded.version.version if loaded else None,
        run_id=loaded.version.run_id if loaded else None,
        loaded_at=loaded.loaded_at if loaded else None,
        refused=[dataclasses.asdict(refusal) for refusal in state.refused],
        problem=problem,
    )


@router.get("/version", summary="The code, image and model that answer")
async def version(request: Request) -> Version:
    """Answers without a model, too."""
    settings = request.app.state.settings
    loaded = request.app.state.follower.state.model
    return Version(
        version=request.app.version,
        commit=settings.commit,
        image_tag=settings.image_tag,
        image_digest=settings.image_digest,
        model_name=loaded.version.name if loaded else None,
        model_version=loaded.version.version if loaded else None,
    )


@router.get("/schema", summary="JSON schema of a listing, for forms")
async def schema() -> dict[str, Any]:
    """Has titles and examples. `known` lists the usual statuses and states; other values are accepted, too.

    `$defs` has the schema of `Feedback`, for forms that send true prices.
    """
    return _SCHEMA


@router.get(
    "/history",
    summary="Batches, decisions, trainings and promotions",
    response_model=BatchHistory,
    responses={503: {"model": Detail, "description": "The ledger does not answer; the text has the cause."}},
)
async def history(request: Request) -> Response:
    """Read from the ledger, at most once every two seconds."""
    return Response(await request.app.state.history.get(), media_type="application/json")


@router.get(
    "/places",
    summary="Places that the model was trained on, for forms",
    responses={
        422: {"model": InvalidDetail, "description": "A parameter is not valid. Each error has its rule."},
        503: {"model": Detail, "description": "No model is loaded yet; the text has the cause."},
    },
)
async def places(
    request: Request,
    query: Annotated[
        str,
        Query(max_length=MAX_NAME_LENGTH, description="Start of a ZIP code, or of a word of a city.", examples=["aga"]),
    ] = "",
    state: Annotated[
        str,
        Query(max_length=MAX_NAME_LENGTH, description="Name of the only state to search.", examples=["Massachusetts"]),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=100, description="Number of places, at most.")] = 20,
) -> KnownPlaces:
    """The places with the most known sales come first. Other places are priced, too, with the values around them."""
    search: PlaceSearch = request.app.state.places
    matches = await run_in_threadpool(search.search, query, state, limit)
    return KnownPlaces(places=[KnownPlace.model_validate(place, from_attributes=True) for place in matches])


@router.get(
    COMPARABLES,
    summary="Sales that are similar to a listing",
    responses={
        404: {"model": Detail, "description": "The model has no sales, because an earlier release trained it."},
        422: {"model": InvalidDetail, "description": "A parameter is not valid. Each error has its rule."},
        503: {
            "model": Detail,
            "description": "No model is loaded yet, or too many requests are in flight; the text has the cause.",
        },
    },
)
async def comparables(request: Request, query: Annotated[ComparablesQuery, Query()]) -> SimilarSales:
    """Sold listings that the model was trained on, with the price and the reasons why each is similar.

    Takes fields of a listing by the rules of `/predict`. Sales in the same ZIP code come first, then those in the same
    city, then those in the same state. Without a known place, there are none.
    """
    search: ComparableSearch = request.app.state.comparables
    listing = ComparedListing(**query.model_dump(exclude={"limit"}))
    async with request.app.state.pricing_threads:  # as many at a time as lists of listings
        result = await run_in_threadpool(search.search, listing, query.limit)
    return SimilarSales.model_validate(result, from_attributes=True)


def document(openapi: dict[str, Any], max_listings: dict[str, int]) -> None:
    """Add the maximum length of a list to the OpenAPI document, by path."""
    for path, limit in max_listings.items():
        operation = openapi["paths"][path]["post"]
        operation["requestBody"] = body = copy.deepcopy(operation["requestBody"])  # both routes share one object
        _, many = body["content"]["application/json"]["schema"]["anyOf"]
        many["maxItems"] = limit
