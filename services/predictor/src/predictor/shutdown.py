"""What happens between SIGTERM and the end of the process."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_SECONDS = 2.0  # until load balancers have noticed; requests that still come are answered


def drain_on_sigterm(note: Callable[[], None]) -> None:
    """On SIGTERM call `note`, go on answering for `DRAIN_SECONDS`, and only then let the server stop.

    The server then refuses new connections and finishes the requests in flight. Call it in the event loop, after the
    server has set its own handler.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # under a test client, which no signal reaches
    loop = asyncio.get_running_loop()
    stop_server = signal.getsignal(signal.SIGTERM)

    def drain(number: int, _: FrameType | None) -> None:
        note()
        if callable(stop_server):
            loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, stop_server, number, None)

    signal.signal(signal.SIGTERM, drain)


class ClosingConnections:
    """ASGI middleware: while the process ends (`state.ending`), every answer is the last one on its connection.

    Else the server would shut a kept connection at the very moment at which a client sends its next request on it.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the server closes what an answer says it closes."""
        if not self._state.ending or scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, last)
