"""Errors of a request. Each class carries the HTTP status of its answer; the prediction log stores the same status."""

from __future__ import annotations

from typing import ClassVar, NotRequired, TypedDict

from core.errors import HouseError, LedgerError

NOT_FINITE = "the model returned a price that is not a finite number"


class InvalidValue(TypedDict):
    """An invalid value of a request's body, as in the answer. `predictor.http.schemas.FieldError` describes it."""

    loc: list[str | int]  # path of the value
    msg: str
    type: str  # name of the broken rule
    input: NotRequired[bool | float | str]


class RequestError(HouseError):
    """The service does not answer the request as the client wishes; the text is the answer's `detail`."""

    status: ClassVar[int] = 500


class NoModelError(RequestError):
    """No model is loaded yet. The text gives the cause."""

    status = 503


class NotFiniteError(RequestError):
    """The model returned NaN or an infinite number as a price."""

    status = 500


class TooLargeError(RequestError):
    """The request has more listings or more bytes than the limit for one request."""

    status = 413


class SlowBodyError(RequestError):
    """The body of the request did not arrive in time."""

    status = 408


class BusyError(RequestError):
    """The service has no room for the body of the request at present."""

    status = 503


class UnauthorizedError(RequestError):
    """The request has no key, or an unknown one."""

    status = 401


class ForbiddenError(RequestError):
    """The settings allow this to nobody. The text says which setting to change."""

    status = 403


class UnknownPredictionError(RequestError):
    """The prediction log has no price for this request id and position."""

    status = 404


class UnknownFileError(RequestError):
    """The served bundle does not have the file."""

    status = 404


class NoSalesError(RequestError):
    """The model has no table of sales."""

    status = 404


class InvalidBodyError(RequestError):
    """The body does not match the schema of the route. `errors` has the field and the broken rule of each error."""

    status = 422

    def __init__(self, errors: list[InvalidValue]) -> None:
        super().__init__(f"{len(errors)} invalid values, first: {errors[0]}")
        self.errors = errors


def status_of(error: Exception) -> int:
    """HTTP status of the answer to a request that ended with this error."""
    if isinstance(error, RequestError):
        return error.status
    return 503 if isinstance(error, LedgerError) else 500
