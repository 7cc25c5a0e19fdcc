"""`POST /feedback`: what a house that was priced before was sold for in the end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.ledger import Ledger
from predictor.answers import Detail, InvalidDetail, Noted
from predictor.errors import InvalidListingError, UnknownPredictionError
from predictor.history import TIMEOUT_SECONDS
from predictor.listing import told
from predictor.routes import read_body

MAX_BYTES = 16_384


def _whole(value: object) -> object:
    """To JSON, 3.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Feedback(BaseModel):
    """The true price of a listing that `POST /predict` priced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Annotated[str, Field(strict=True, pattern=r"^[\x21-\x7e]{1,128}$")] = Field(
        description="of the answer to `POST /predict`", examples=["5f0c3c1f1f0e4c5c8f5d2f2b9d7c6a10"]
    )
    position: Annotated[int, Field(strict=True, ge=0, le=2_147_483_647), BeforeValidator(_whole)] = Field(
        default=0, description="in the list of listings, from 0; leave it out for a single listing", examples=[0]
    )
    price: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        description="US dollars; what the house was sold for", examples=[251000]
    )


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Feedback"}}},
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": Detail, "description": "No such prediction in the log: not yet, no longer, or it had no price."},
    413: {"model": Detail, "description": "Too many bytes."},
    422: {"model": InvalidDetail, "description": "Not feedback; every error names its field and its rule."},
    503: {"model": Detail, "description": "The ledger does not answer; `Retry-After` says what to wait."},
}

router = APIRouter()


class FeedbackBook:
    """Takes feedback down in the ledger."""

    def __init__(self, dsn: str) -> None:
        self._ledger = Ledger(dsn, connect_timeout=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS)

    def note(self, body: bytes) -> Noted:
        """Take down the feedback of a body; the same again changes nothing, another price takes its place.

        Raises:
            InvalidListingError: this is no feedback.
            UnknownPredictionError: the log holds no such prediction.
            LedgerError: the database did not answer.
        """
        try:
            given = Feedback.model_validate_json(body)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_context=False)
            raise InvalidListingError([told(error) for error in errors]) from invalid
        if not self._ledger.add_feedback(given.request_id, given.position, given.price):
            raise UnknownPredictionError(
                f"no price of request {given.request_id} at position {given.position} is in the log: it is not there "
                "yet (predictions are logged some seconds later), no longer (see predictionLogRetentionDays), or there "
                "was none"
            )
        return Noted(**given.model_dump())


@router.post(
    "/feedback", summary="Tell the true price of a listing that was priced", openapi_extra=_BODY, responses=_ERRORS
)
async def feedback(request: Request) -> Noted:
    """Of several true prices for a listing the last one counts; the error per model version follows from it."""
    body = await read_body(request, MAX_BYTES)
    return await run_in_threadpool(request.app.state.feedback.note, body)
