"""Receives request bodies within limits: size, time, and bytes of all bodies in memory."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictor import metrics
from predictor.errors import BusyError, RequestError, SlowBodyError, TooLargeError
from predictor.http.errors import error_response
from predictor.http.load_shedding import Slots


async def read_body(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes.

    A body whose Content-Length is too large is refused before any of it is read.

    Raises:
        TooLargeError: the body has more than `limit` bytes.
    """
    chunks: list[bytes] = []
    length = _declared(request.scope)
    if length <= limit:
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > limit:
                break
            if chunk:
                chunks.append(chunk)
    if length > limit:
        metrics.refused.labels("too_large").inc()
        raise TooLargeError(f"the body has more than {limit} bytes: send the listings in several requests")
    return b"".join(chunks)  # of one chunk: no copy


async def receive_in_time(scope: Scope, receive: Receive, seconds: float) -> Message:
    """The next message of a request. All messages of one request together have `seconds` from the first call on.

    Raises:
        SlowBodyError: the time is over. The connection must be closed, because the rest of the body may still come.
    """
    state: dict[str, float] = scope.setdefault("state", {})
    if "body_deadline" not in state:
        state["body_deadline"] = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(state["body_deadline"]):
            return await receive()
    except TimeoutError:
        metrics.refused.labels("slow_body").inc()
        raise SlowBodyError(
            f"the body did not arrive within {seconds:g} s: send it faster, or send fewer listings in one request"
        ) from None


class BodyBudget:
    """Counts the bytes of all bodies in memory: received in part, waiting, or being priced."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> int:
        """Bytes that are not used."""
        return self.limit - self.used


class ReceiveBodies:
    """ASGI middleware that receives the body of a POST request before the request takes a slot of load shedding.

    So slow senders take no slots. A body counts with the bytes that have arrived, not with its declared length, so that
    a client that declares much and sends little takes nothing from the others. If many bodies arrive together and do
    not fit into the budget, those that need more first are refused, which leaves room for the others.
    """

    def __init__(self, app: ASGIApp, slots: Slots, budget: BodyBudget, max_bytes: int, seconds: float) -> None:
        self.app = app
        self._slots = slots
        self._budget = budget
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it with 408 or 503."""
        # load shedding and the routes refuse the last two kinds before any of the body is read
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or self._slots.full
            or _declared(scope) > self._max_bytes
        ):
            await self.app(scope, receive, send)
            return
        received = _ReceivedBody(self._budget)
        try:
            try:
                if _declared(scope) > self._budget.free:
                    raise _no_room(self._budget.limit)
                last = await self._receive_all(scope, receive, received)
            except RequestError as error:
                await error_response(error)(scope, receive, send)
                return
            await self.app(scope, replay(last, receive), send)
        finally:
            received.forget()

    async def _receive_all(self, scope: Scope, receive: Receive, received: _ReceivedBody) -> Message:
        """One message with the whole body. It is incomplete if the body is too large, or if the client is gone."""
        more = True
        while more and received.size <= self._max_bytes:
            message = await receive_in_time(scope, receive, self._seconds)
            if message["type"] != "http.request":
                return message
            received.add(message.get("body", b""))
            more = message.get("more_body", False)
        return {"type": "http.request", "body": received.take(), "more_body": more}


class _ReceivedBody:
    """The parts of one body, which count in the budget until the request has its answer."""

    def __init__(self, budget: BodyBudget) -> None:
        self.size = 0
        self._budget = budget
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Add a part.

        Raises:
            BusyError: the budget has no room for it.
        """
        if len(part) > self._budget.free:
            raise _no_room(self._budget.limit)
        self._budget.used += len(part)
        self.size += len(part)
        self._parts.append(part)

    def take(self) -> bytes:
        """The body. The parts are not kept."""
        parts, self._parts = self._parts, []
        return b"".join(parts)

    def forget(self) -> None:
        """Give the bytes back to the budget."""
        self._budget.used -= self.size
        self.size, self._parts = 0, []


def _no_room(limit: int) -> BusyError:
    metrics.refused.labels("overload").inc()
    return BusyError(f"the bodies of all requests in flight reach {limit} bytes, the limit of this pod: retry later")


def _declared(scope: Scope) -> int:
    """The Content-Length; 0 without one. The server has already refused values that are not numbers."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


def replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that returns a message that was already read, and then the following ones."""
    pending = [message]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
