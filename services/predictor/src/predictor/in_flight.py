"""A bound on the requests in flight, so that those which are accepted are answered as fast under overload."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from predictor import metrics

RETRY_AFTER_SECONDS = 1


class InFlight:
    """ASGI middleware: with `limit` requests in flight, each further one is refused before its body is read.

    Probes and metrics are neither counted nor refused. A limit of 0 is none.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 503 and `Retry-After`."""
        if scope["type"] != "http" or not self.limit or _always_answered(scope["path"]):
            await self.app(scope, receive, send)
            return
        if self.count >= self.limit:
            metrics.refused.labels("overload").inc()
            detail = f"more than {self.limit} requests at once: try again in {RETRY_AFTER_SECONDS} s"
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            await JSONResponse({"detail": detail}, 503, headers)(scope, receive, send)
            return
        self.count += 1
        metrics.in_flight.set(self.count)
        try:
            # a listing is priced in one go: those that came together must all be counted before the first one is
            await asyncio.sleep(0)
            await self.app(scope, receive, send)
        finally:
            self.count -= 1
            metrics.in_flight.set(self.count)


def _always_answered(path: str) -> bool:
    return path == "/metrics" or path.startswith("/health/")
