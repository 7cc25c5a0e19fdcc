"""The routes: each translates between HTTP and the module that decides."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from core.errors import HouseError
from predictor import metrics
from predictor.answers import (
    Alive,
    Challenger,
    Detail,
    Explanation,
    Explanations,
    History,
    InvalidDetail,
    Model,
    Price,
    Prices,
    Version,
)
from predictor.auth import CHALLENGE
from predictor.errors import InvalidListingError, NoModelError, TooLargeError, status_of
from predictor.listing import EXAMPLE, form_schema
from predictor.pricing import Pricing
from predictor.shadow import Shadow

RETRY_AFTER_SECONDS = 5
_HEADERS = {503: {"Retry-After": str(RETRY_AFTER_SECONDS)}, 401: CHALLENGE}
PREDICT, EXPLAIN = "/predict", "/explain"
INLINE_BYTES = 16 * 1024  # a body of some 50 listings is priced faster than a thread is handed the work

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
    413: {"model": Detail, "description": "Too many listings or too many bytes in one request."},
    422: {"model": InvalidDetail, "description": "Not a listing; every error names its field and its rule."},
    503: {
        "model": Detail,
        "description": "No model yet, or too many requests at once; the text says why, `Retry-After` what to wait.",
    },
}


@router.post(
    PREDICT,
    summary="Price one listing or a list of them",
    openapi_extra=_BODY,
    responses={
        200: {"model": Price | Prices, "description": "One price for an object, prices in their order for a list."},
        **_ERRORS,
    },
)
async def predict(request: Request) -> JSONResponse:
    """Unknown fields are ignored, missing and null ones are priced without."""  # one listing: see one_listing.py
    pricing: Pricing = request.app.state.pricing
    began = time.perf_counter()
    try:
        body = await read_body(request, request.app.state.settings.max_body_bytes)
    except TooLargeError as refused:
        pricing.note_failed(began, request.state.request_id, b"", refused)
        raise
    arguments = (body, request.state.request_id)
    return JSONResponse(
        pricing.answer(*arguments) if len(body) <= INLINE_BYTES else await run_in_threadpool(pricing.answer, *arguments)
    )


@router.post(
    EXPLAIN,
    summary="Price one listing or a few of them, and say why",
    openapi_extra=_BODY,
    responses={
        200: {
            "model": Explanation | Explanations,
            "description": "The reasons of one price for an object, of all in their order for a list.",
        },
        **_ERRORS,
    },
)
async def explain(request: Request) -> JSONResponse:
    """Exact SHAP values in dollars. Listings as for `/predict`, but fewer of them: one costs as much as hundreds."""
    pricing: Pricing = request.app.state.pricing
    body = await read_body(request, request.app.state.settings.max_body_bytes)
    return JSONResponse(await run_in_threadpool(pricing.explain, body, request.state.request_id))


@router.get("/health/live", summary="The process works")
async def live() -> Alive:
    """Depends on nothing else."""
    return Alive(status="alive")


@router.get(
    "/health/ready",
    summary="A model is loaded",
    responses={503: {"model": Detail, "description": "No model yet, or the process is ending."}},
)
async def ready(request: Request) -> Alive:
    """True from the first loaded model on, MLflow present or not; false while the process ends."""
    state = request.app.state.follower.state
    if request.app.state.ending:
        raise NoModelError("the process is ending")
    if state.served is None:
        raise NoModelError(state.problem or "no model yet")
    return Alive(status="ready")


@router.get(
    "/model",
    summary="Which model answers, and which were refused",
    responses={503: {"model": Detail, "description": "No model yet; the text says why."}},
)
async def model(request: Request) -> Model:
    """`stale` is true when the registry does not confirm this model at present; `problem` says why."""
    follower = request.app.state.follower
    state = follower.state
    if state.served is None:
        raise NoModelError(state.problem or "no model yet")
    return Model(
        name=state.served.version.name,
        version=state.served.version.version,
        alias=follower.alias,
        run_id=state.served.version.run_id,
        loaded_at=state.served.loaded_at,
        fingerprint=state.served.bundle.fingerprint,
        refused=[dataclasses.asdict(refusal) for refusal in state.refused],
        stale=state.stale,
        problem=state.problem,
        shadow=_challenger(request.app.state.shadow, state.served.version.version),
    )


def _challenger(shadow: Shadow | None, champion: str) -> Challenger | None:
    if shadow is None:
        return None
    state = shadow.follower.state
    served, problem = state.served, shadow.problem or state.problem
    if served and served.version.version == champion:
        served, problem = None, f"version {champion} is the champion now: there is nothing to compare it with"
    return Challenger(
        share=shadow.share,
        alias=shadow.follower.alias,
        version=served.version.version if served else None,
        run_id=served.version.run_id if served else None,
        loaded_at=served.loaded_at if served else None,
        refused=[dataclasses.asdict(refusal) for refusal in state.refused],
        problem=problem,
    )


@router.get("/version", summary="Which code, image and model answer")
async def version(request: Request) -> Version:
    """Answers without a model, too."""
    settings = request.app.state.settings
    served = request.app.state.follower.state.served
    return Version(
        version=request.app.version,
        commit=settings.commit,
        image_tag=settings.image_tag,
        image_digest=settings.image_digest,
        model_name=served.version.name if served else None,
        model_version=served.version.version if served else None,
    )


@router.get("/schema", summary="JSON schema of a listing, for forms")
async def schema() -> dict[str, Any]:
    """With titles, examples, and the known statuses and states as `known`; others are accepted too."""
    return form_schema()


@router.get(
    "/history",
    summary="Batches, decisions, trainings and promotions",
    responses={503: {"model": Detail, "description": "The ledger does not answer; the text says why."}},
)
def history(request: Request) -> History:
    """Read from the ledger."""
    return History.model_validate(request.app.state.history.read())


def document(openapi: dict[str, Any], most: dict[str, int]) -> None:
    """Say in the OpenAPI document how many listings a list may have, by path."""
    for path, listings in most.items():
        operation = openapi["paths"][path]["post"]
        operation["requestBody"] = body = copy.deepcopy(operation["requestBody"])  # the routes share it
        _, many = body["content"]["application/json"]["schema"]["anyOf"]
        many["maxItems"] = listings


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit`: by its header, before any of it is read."""
    body = bytearray()
    length = int(request.headers.get("content-length", 0))  # the server has refused what is no number
    if length <= limit:
        async for chunk in request.stream():
            length = len(body) + len(chunk)
            if length > limit:
                break
            body += chunk
    if length > limit:
        metrics.refused.labels("too_large").inc()
        raise TooLargeError(f"more than {limit} bytes: send the listings in several requests")
    return bytes(body)


async def tell_error(_: Request, error: Exception) -> JSONResponse:
    """The answer to a request that failed with one of our own errors."""
    return told(error)


def told(error: Exception) -> JSONResponse:
    """One of our own errors as an answer."""
    status = status_of(error)
    detail = error.errors if isinstance(error, InvalidListingError) else str(error)
    return JSONResponse({"detail": detail}, status_code=status, headers=_HEADERS.get(status))


async def tell_fault(request: Request, _: Exception) -> JSONResponse:
    """The answer to a request that met a fault of ours; the log has the traceback under the same id."""
    identity = request.state.request_id
    return JSONResponse(
        {"detail": f"internal error: the service's log has it under request id {identity}"},
        status_code=500,
        headers={"X-Request-ID": identity},
    )


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HouseError: tell_error,
    Exception: tell_fault,
}
