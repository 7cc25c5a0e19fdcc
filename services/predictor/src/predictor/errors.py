"""What a request can fail with, and the HTTP status of each."""

from __future__ import annotations

from typing import Any

from core.errors import HouseError, LedgerError

NOT_FINITE = "the model gives no number as the price"


class NoModelError(HouseError):
    """No model has been loaded yet; the text says why."""


class NotFiniteError(HouseError):
    """The model gives something else than a number as a price."""


class TooLargeError(HouseError):
    """The request holds more listings, or more bytes, than one request may."""


class UnauthorizedError(HouseError):
    """The request has no key, or one that is not known."""


class ForbiddenError(HouseError):
    """Nobody may do this as the service is set up; the text says what to set."""


class UnknownPredictionError(HouseError):
    """The log holds no prediction of this request id and position."""


class InvalidListingError(HouseError):
    """The body is not what the route takes; `errors` names each field and the rule that it breaks."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} invalid values, first: {errors[0]}")
        self.errors = errors


STATUS = {
    NoModelError: 503,
    LedgerError: 503,
    InvalidListingError: 422,
    TooLargeError: 413,
    UnknownPredictionError: 404,
    ForbiddenError: 403,
    UnauthorizedError: 401,
}


def status_of(error: Exception) -> int:
    """The HTTP status of the answer to a request that met this error."""
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
