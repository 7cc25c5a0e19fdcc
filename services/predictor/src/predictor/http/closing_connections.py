"""Closes kept-alive connections while the process shuts down."""

from __future__ import annotations

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ClosingConnections:
    """ASGI middleware. While the process shuts down (`state.ending`), each answer has the header `Connection: close`.

    Otherwise the server could close an idle connection at the moment when a client sends the next request on it.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. The server closes the connection after an answer with `Connection: close`."""
        if not self._state.ending or scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, send_closing)
