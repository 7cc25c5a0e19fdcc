"""Bounds on the requests in flight, so that those which are accepted are answered as fast under overload."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from predictor import metrics

RETRY_AFTER_SECONDS = 1
BURST_SECONDS = 0.1  # a queue that is long for longer than that, or again within that, is no burst


class Places:
    """As many requests as are in flight hold one each, `with` it; a limit of 0 is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        detail = f"more than {limit} requests at once: try again in {RETRY_AFTER_SECONDS} s"
        self.refusal = JSONResponse({"detail": detail}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @property
    def full(self) -> bool:
        """True where a further request is to be refused."""
        return 0 < self.limit <= self.count

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Queue(Places):
    """Places of requests that are served one after another: each waits for all before it.

    A burst may take all places. Of a queue that lasts longer only a quarter are kept: where more comes than is served,
    every further place is one more to wait for, and serves nobody sooner.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._kept = -(-limit // 4)
        self._long_since = self._long_at = -math.inf  # the first and the last request that found it long

    @property
    def full(self) -> bool:
        """True where the request that asks is to be refused."""
        if not 0 < self._kept <= self.count:
            return False
        now = time.monotonic()
        if now - self._long_at > BURST_SECONDS:
            self._long_since = now
        self._long_at = now
        return super().full or now - self._long_since > BURST_SECONDS


class InFlight:
    """ASGI middleware: while the places are full, each further request is refused before its body is read.

    Probes and metrics are neither counted nor refused.
    """

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self.app = app
        self.places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 503 and `Retry-After`."""
        if scope["type"] != "http" or _always_answered(scope["path"]):
            await self.app(scope, receive, send)
            return
        if self.places.full:
            metrics.refused.labels("overload").inc()
            await self.places.refusal(scope, receive, send)
            return
        with self.places:
            # a listing is priced in one go: those that came together must all be counted before the first one is
            await asyncio.sleep(0)
            await self.app(scope, receive, send)


def _always_answered(path: str) -> bool:
    return path == "/metrics" or path.startswith("/health/")


def document(openapi: dict[str, Any]) -> None:
    """Say in the OpenAPI document which requests may be refused; where a 503 has other reasons, its route says so."""
    answer = {
        "description": "Too many requests at once; `Retry-After` says what to wait.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
    }
    for path, operations in openapi["paths"].items():
        for operation in operations.values() if not _always_answered(path) else ():
            operation["responses"].setdefault("503", answer)
