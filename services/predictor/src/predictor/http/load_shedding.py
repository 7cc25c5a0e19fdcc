"""Limits the requests in flight, so that accepted requests stay fast under overload."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from predictor import metrics

RETRY_AFTER_SECONDS = 1
BURST_SECONDS = 0.1  # longest burst; also the gap without many waiting requests that separates two bursts


class Slots:
    """Counts the requests in flight: each takes a slot with a `with` block. A limit of 0 means no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        detail = f"the service already has {limit} requests in flight, its limit: retry after {RETRY_AFTER_SECONDS} s"
        self.refusal = JSONResponse({"detail": detail}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @property
    def full(self) -> bool:
        """Whether the next request must be refused."""
        return 0 < self.limit <= self.count

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class BurstSlots(Slots):
    """Slots for requests that are served one after another, so that each waits for all before it.

    A short burst may take all slots. After `BURST_SECONDS` of overload only a quarter of them is available: while more
    requests arrive than can be served, a longer queue adds waiting time but serves no request sooner.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._sustained_limit = -(-limit // 4)
        self._burst_began = self._burst_seen = -math.inf  # times of the first and last request that saw a burst

    @property
    def full(self) -> bool:
        """Whether the next request must be refused."""
        if not 0 < self._sustained_limit <= self.count:
            return False
        now = time.monotonic()
        if now - self._burst_seen > BURST_SECONDS:
            self._burst_began = now
        self._burst_seen = now
        return super().full or now - self._burst_began > BURST_SECONDS


class LoadShedding:
    """ASGI middleware that refuses requests before their body is read while all slots are taken.

    Probes and `/metrics` take no slot and are never refused.
    """

    def __init__(self, app: ASGIApp, slots: Slots) -> None:
        self.app = app
        self.slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 503 and `Retry-After`."""
        if scope["type"] != "http" or _always_answered(scope["path"]):
            await self.app(scope, receive, send)
            return
        if self.slots.full:
            metrics.refused.labels("overload").inc()
            await self.slots.refusal(scope, receive, send)
            return
        with self.slots:
            # pricing blocks the event loop: count all requests that arrived together before pricing the first one
            await asyncio.sleep(0)
            await self.app(scope, receive, send)


def _always_answered(path: str) -> bool:
    return path == "/metrics" or path.startswith("/health/")


def document(openapi: dict[str, Any]) -> None:
    """Add the 503 of load shedding to the OpenAPI document. Routes that already describe a 503 keep their text."""
    answer = {
        "description": "Too many requests in flight. `Retry-After` has the seconds to wait.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
    }
    for path, operations in openapi["paths"].items():
        for operation in operations.values() if not _always_answered(path) else ():
            operation["responses"].setdefault("503", answer)
