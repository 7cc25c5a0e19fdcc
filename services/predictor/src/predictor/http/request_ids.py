"""Adds `X-Request-ID` to every answer: the client's own id if it is usable, otherwise a new one."""

from __future__ import annotations

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictor import logs

HEADER = b"x-request-id"
PATTERN = r"[\x21-\x7e]{1,128}"  # visible ASCII: safe in a header, in a log line and in the ledger
_USABLE = re.compile(PATTERN.encode())


def of(scope: Scope) -> str:
    """The id of a request. The first call stores it in the request's state and in the log context of its task."""
    state: dict[str, str] = scope.setdefault("state", {})
    if "request_id" not in state:
        header = next((value for name, value in scope["headers"] if name == HEADER), b"")
        state["request_id"] = header.decode() if _USABLE.fullmatch(header) else secrets.token_hex(16)
        logs.request_id.set(state["request_id"])
    return state["request_id"]


class RequestIds:
    """ASGI middleware. Handlers find the id in `request.state.request_id`; log lines contain it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = of(scope).encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (HEADER, request_id)]
            await send(message)

        await self.app(scope, receive, send_with_id)
