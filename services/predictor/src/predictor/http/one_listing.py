"""Fast path for `POST /predict` with one listing.

FastAPI's routing and the middleware around it take several times as long as a price. This middleware is outside all
of them and answers such requests itself. It uses the same keys, slots, ids, prices, errors and metrics as the route. A
list, or a body that arrives in parts, goes on to the route, which gives the same answers.
"""

from __future__ import annotations

import asyncio
import time

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import HouseError
from predictor import metrics
from predictor.errors import SlowBodyError
from predictor.http import request_ids
from predictor.http.auth import ApiKeys
from predictor.http.bodies import receive_in_time, replay
from predictor.http.errors import error_response
from predictor.http.load_shedding import BurstSlots
from predictor.http.metrics import http_metrics
from predictor.http.routes import INLINE_BYTES, PREDICT
from predictor.pricing.listing import is_list
from predictor.pricing.price import Pricing

_JSON = (b"content-type", b"application/json")
REFUSAL_DELAY_SECONDS = 0.1  # clients that ignore `Retry-After` retry less often if the 503 is delayed


class OneListing:
    """ASGI middleware with the fast path."""

    def __init__(
        self,
        app: ASGIApp,
        pricing: Pricing,
        slots: BurstSlots,
        keys: ApiKeys | None,
        max_body_bytes: int,
        body_seconds: float,
    ) -> None:
        self.app = app
        self._pricing = pricing
        self._slots = slots
        self._keys = keys
        self._max_bytes = min(INLINE_BYTES, max_body_bytes)
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if (
            scope["type"] != "http"
            or scope["path"] != PREDICT
            or scope["method"] != "POST"
            or (self._keys is not None and self._keys.refusal(scope) is not None)
        ):
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        try:
            message = await receive_in_time(scope, receive, self._body_seconds)
        except SlowBodyError as error:
            await _send_error(scope, error, began, send)
            return
        if not self._is_one_listing(message):
            await self.app(scope, replay(message, receive), send)
        elif self._slots.full:
            await self._refuse(scope, began, send)
        else:
            with self._slots:
                await asyncio.sleep(0)  # for the same reason as in `LoadShedding`
                await self._answer(scope, message["body"], began, send)

    def _is_one_listing(self, message: Message) -> bool:
        body = message.get("body", b"")
        complete = message["type"] == "http.request" and not message.get("more_body")
        return complete and len(body) <= self._max_bytes and not is_list(body)

    async def _refuse(self, scope: Scope, began: float, send: Send) -> None:
        refusal = self._slots.refusal
        metrics.refused.labels("overload").inc()
        _count(scope, refusal.status_code, len(refusal.body), began)  # before the delay, which is not service latency
        await asyncio.sleep(REFUSAL_DELAY_SECONDS)
        await _send(scope, send, refusal.status_code, refusal.raw_headers, bytes(refusal.body))

    async def _answer(self, scope: Scope, body: bytes, began: float, send: Send) -> None:
        status, sent = 500, 0
        try:
            try:
                content = to_json(self._pricing.answer(body, request_ids.of(scope)))
            except HouseError as error:
                response = error_response(error)
                content, headers, code = bytes(response.body), response.raw_headers, response.status_code
            else:
                headers, code = [(b"content-length", b"%d" % len(content)), _JSON], 200
            await _send(scope, send, code, headers, content)
            status, sent = code, len(content)
        finally:
            _count(scope, status, sent, began)


async def _send_error(scope: Scope, error: HouseError, began: float, send: Send) -> None:
    response = error_response(error)
    content = bytes(response.body)
    _count(scope, response.status_code, len(content), began)
    await _send(scope, send, response.status_code, response.raw_headers, content)


async def _send(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
    headers = [*headers, (request_ids.HEADER, request_ids.of(scope).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _count(scope: Scope, status: int, sent: int, began: float) -> None:
    received = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
    http_metrics.route("POST", PREDICT).count(f"{status // 100}xx", received, sent, time.perf_counter() - began)
