"""`POST /feedback`: the true price of a house that was priced before."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.listing.schema import RANGES
from predictor.errors import InvalidBodyError
from predictor.http.bodies import read_body
from predictor.http.request_ids import PATTERN
from predictor.http.schemas import Detail, InvalidDetail, StoredFeedback
from predictor.pricing.listing import describe, in_range

MAX_BYTES = 16_384


def _integral(value: object) -> object:
    """Converts 3.0 to 3, because JSON does not tell them apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Feedback(BaseModel):
    """The true price of a listing that `POST /predict` or `POST /explain` priced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Annotated[str, Field(strict=True, pattern=rf"^{PATTERN}$")] = Field(
        description="Request id in the answer of `POST /predict` or `POST /explain`.",
        examples=["5f0c3c1f1f0e4c5c8f5d2f2b9d7c6a10"],
    )
    position: Annotated[int, Field(strict=True, ge=0, le=2_147_483_647), BeforeValidator(_integral)] = Field(
        default=0, description="Position in the list, from 0. Not needed for a single listing.", examples=[0]
    )
    price: Annotated[float, in_range("price")] = Field(
        description=f"Price for which the house was sold, in US dollars: {RANGES['price']}.", examples=[251000]
    )


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Feedback"}}},
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    408: {"model": Detail, "description": "The body did not arrive in time. `Retry-After` has the seconds to wait."},
    404: {
        "model": Detail,
        "description": "The log has no price for this request: not yet, not any more, or it got none.",
    },
    413: {"model": Detail, "description": "The body has too many bytes."},
    422: {"model": InvalidDetail, "description": "The body is not valid. Each error has its field and its rule."},
    503: {"model": Detail, "description": "The ledger does not answer. `Retry-After` has the seconds to wait."},
}

router = APIRouter()


@router.post("/feedback", summary="Store the true price of a listing", openapi_extra=_BODY, responses=_ERRORS)
async def feedback(request: Request) -> StoredFeedback:
    """A later price for the same listing replaces an earlier one. `/history` has the resulting errors by version."""
    entry = parse(await read_body(request, MAX_BYTES))
    await run_in_threadpool(request.app.state.feedback.add, entry.request_id, entry.position, entry.price)
    return StoredFeedback(**entry.model_dump())


def parse(body: bytes) -> Feedback:
    """The feedback in a body.

    Raises:
        InvalidBodyError: the body does not match the schema.
    """
    try:
        return Feedback.model_validate_json(body)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_context=False)
        raise InvalidBodyError([describe(error) for error in errors]) from invalid
