"""Turns errors into answers: status, headers and the JSON field `detail`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from core.errors import HouseError
from predictor.errors import InvalidBodyError, status_of

RETRY_AFTER_SECONDS = 5
CHALLENGE = {"WWW-Authenticate": "Bearer"}
_RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}
# 408: the rest of the body may still come, and must not be taken for the next request
_HEADERS = {503: _RETRY, 408: {**_RETRY, "Connection": "close"}, 401: CHALLENGE}


def error_response(error: Exception) -> JSONResponse:
    """The answer for one of our own errors."""
    status = status_of(error)
    detail = error.errors if isinstance(error, InvalidBodyError) else str(error)
    return JSONResponse({"detail": detail}, status_code=status, headers=_HEADERS.get(status))


async def _handle_error(_: Request, error: Exception) -> JSONResponse:
    return error_response(error)


async def _handle_bug(request: Request, _: Exception) -> JSONResponse:
    """The answer to a request that met a bug. The log has the traceback under the same request id."""
    request_id = request.state.request_id
    return JSONResponse(
        {"detail": f"internal error: search the log of the service for request id {request_id}"},
        status_code=500,
        headers={"X-Request-ID": request_id},
    )


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HouseError: _handle_error,
    Exception: _handle_bug,
}
