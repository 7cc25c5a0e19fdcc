"""Who may ask: keys as bearer tokens, `Authorization: Bearer <key>`, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from predictor import metrics
from predictor.errors import ForbiddenError, UnauthorizedError

ADMIN = "/admin/"
CHALLENGE = {"WWW-Authenticate": "Bearer"}
NO_ADMIN_KEY = (
    "admin routes are closed, as no admin key is set: put one into the Secret `fastapi` as ADMIN_KEY, which "
    "`make secrets` does, and restart the pods"
)
NO_KEY = "an API key is needed: send one of API_KEYS in the Secret `fastapi` as `Authorization: Bearer <key>`"
NOT_ADMIN = "this is not the admin key: send ADMIN_KEY of the Secret `fastapi` as `Authorization: Bearer <key>`"


def split(keys: str) -> list[str]:
    """The keys of a list that commas separate."""
    return [key.strip() for key in keys.split(",") if key.strip()]


def one_of(given: bytes, keys: Iterable[bytes]) -> bool:
    """True if `given` is one of the keys; how long it takes says neither which nor how much of it is right."""
    return any([hmac.compare_digest(given, key) for key in keys])  # all of them, always  # noqa: C419


class Keys:
    """The keys that open prices."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def admit(self, scope: Scope) -> bool:
        """True if the request has one of the keys as its bearer token."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        return one_of(key.strip(), self._keys) and scheme.lower() == b"bearer"


class ApiKeys:
    """ASGI middleware for a service that asks for keys: POST, which prices, needs one; what is read does not.

    Admin routes have a key of their own.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 401 before its body is read."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"].startswith(ADMIN)
            or self._keys.admit(scope)
        ):
            await self.app(scope, receive, send)
            return
        metrics.refused.labels("unauthorized").inc()
        await JSONResponse({"detail": NO_KEY}, 401, CHALLENGE)(scope, receive, send)


_admin_bearer = HTTPBearer(auto_error=False, scheme_name="AdminKey", description="ADMIN_KEY of the Secret `fastapi`.")


async def admin(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_admin_bearer)]
) -> None:
    """A dependency of admin routes.

    Raises:
        ForbiddenError: there is no admin key, so nobody may.
        UnauthorizedError: the request has another, or none.
    """
    key = request.app.state.settings.admin_key
    if not key:
        raise ForbiddenError(NO_ADMIN_KEY)
    if given is None or not one_of(given.credentials.encode(), [key.encode()]):
        metrics.refused.labels("unauthorized").inc()
        raise UnauthorizedError(NOT_ADMIN)


def document(openapi: dict[str, Any]) -> None:
    """Say in the OpenAPI document which routes need an API key."""
    schemes = openapi.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["ApiKey"] = {"type": "http", "scheme": "bearer", "description": "One of API_KEYS of the Secret `fastapi`."}
    for path, operations in openapi["paths"].items():
        if "post" in operations and not path.startswith(ADMIN):
            operations["post"]["security"] = [{"ApiKey": []}]
            operations["post"]["responses"]["401"] = {
                "description": "No API key, or one that is not known.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
            }
