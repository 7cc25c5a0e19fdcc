"""Reads request bodies with a size limit."""

from __future__ import annotations

from fastapi import Request

from predictor import metrics
from predictor.errors import TooLargeError


async def read_body(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes.

    A body whose Content-Length is too large is refused before any of it is read.

    Raises:
        TooLargeError: the body has more than `limit` bytes.
    """
    body = bytearray()
    length = int(request.headers.get("content-length", 0))  # the server has already refused values that are not numbers
    if length <= limit:
        async for chunk in request.stream():
            length = len(body) + len(chunk)
            if length > limit:
                break
            body += chunk
    if length > limit:
        metrics.refused.labels("too_large").inc()
        raise TooLargeError(f"the body has more than {limit} bytes: send the listings in several requests")
    return bytes(body)
