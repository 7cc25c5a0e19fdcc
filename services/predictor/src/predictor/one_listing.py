"""`POST /predict` of one listing, from the server straight to the model and back.

FastAPI's routing and the layers around it take several times as long as a price. So this layer, in front of them,
answers such requests itself. It decides nothing: keys, places, ids, prices, errors and metrics are those of the
modules behind the route. What is a list, or not wholly here, goes on to the route, which answers the same.
"""

from __future__ import annotations

import asyncio
import time

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import HouseError
from predictor import metrics, request_ids
from predictor.auth import Keys
from predictor.in_flight import Queue
from predictor.listing import is_list
from predictor.pricing import Pricing
from predictor.routes import INLINE_BYTES, PREDICT, told

_JSON = (b"content-type", b"application/json")
REFUSED_AFTER_SECONDS = 0.1  # who asks again at once without being told when then does so less often


class OneListing:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, pricing: Pricing, queue: Queue, keys: Keys | None, max_body_bytes: int) -> None:
        self.app = app
        self._pricing = pricing
        self._queue = queue
        self._keys = keys
        self._most_bytes = min(INLINE_BYTES, max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if (
            scope["type"] != "http"
            or scope["path"] != PREDICT
            or scope["method"] != "POST"
            or not (self._keys is None or self._keys.admit(scope))
        ):
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        message = await receive()
        if not self._is_one(message):
            await self.app(scope, _again(message, receive), send)
        elif self._queue.full:
            await self._refuse(scope, began, send)
        else:
            with self._queue:
                await asyncio.sleep(0)  # as in `InFlight`
                await self._answer(scope, message["body"], began, send)

    def _is_one(self, message: Message) -> bool:
        body = message.get("body", b"")
        whole = message["type"] == "http.request" and not message.get("more_body")
        return whole and len(body) <= self._most_bytes and not is_list(body)

    async def _refuse(self, scope: Scope, began: float, send: Send) -> None:
        refusal = self._queue.refusal
        metrics.refused.labels("overload").inc()
        _count(scope, refusal.status_code, len(refusal.body), began)  # its wait is none of the service's latency
        await asyncio.sleep(REFUSED_AFTER_SECONDS)
        await _send(scope, send, refusal.status_code, refusal.raw_headers, bytes(refusal.body))

    async def _answer(self, scope: Scope, body: bytes, began: float, send: Send) -> None:
        status, sent = 500, 0
        try:
            try:
                content = to_json(self._pricing.answer(body, request_ids.of(scope)))
            except HouseError as error:
                response = told(error)
                content, headers, code = bytes(response.body), response.raw_headers, response.status_code
            else:
                headers, code = [(b"content-length", b"%d" % len(content)), _JSON], 200
            await _send(scope, send, code, headers, content)
            status, sent = code, len(content)
        finally:
            _count(scope, status, sent, began)


async def _send(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
    headers = [*headers, (request_ids.HEADER, request_ids.of(scope).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _count(scope: Scope, status: int, sent: int, began: float) -> None:
    received = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
    metrics.http.route("POST", PREDICT).count(f"{status // 100}xx", received, sent, time.perf_counter() - began)


def _again(message: Message, receive: Receive) -> Receive:
    """Hands out a message that was read already, then those that follow it."""
    read = [message]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return again
