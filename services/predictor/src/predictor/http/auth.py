"""API keys as bearer tokens (`Authorization: Bearer <key>`), compared in constant time."""

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
from predictor.http.errors import CHALLENGE

ADMIN = "/admin/"
NO_ADMIN_KEY = (
    "admin routes are closed because no admin key is set: run `make secrets`, which puts ADMIN_KEY into the Secret "
    "`fastapi`, and restart the pods"
)
NO_KEY = (
    "the request has no valid API key: send one of API_KEYS in the Secret `fastapi` as `Authorization: Bearer <key>`"
)
NOT_ADMIN = (
    "the request does not have the admin key: send ADMIN_KEY of the Secret `fastapi` as `Authorization: Bearer <key>`"
)


def split_keys(keys: str) -> list[str]:
    """The keys of a comma-separated list."""
    return [key.strip() for key in keys.split(",") if key.strip()]


def one_of(candidate: bytes, keys: Iterable[bytes]) -> bool:
    """Whether `candidate` is one of the keys. The duration does not depend on which key or characters match."""
    # a list, because a generator would stop at the first match
    return any([hmac.compare_digest(candidate, key) for key in keys])  # noqa: C419


class ApiKeys:
    """The keys that give access to prices."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def admit(self, scope: Scope) -> bool:
        """Whether the request has one of the keys as its bearer token."""
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = header.partition(b" ")
        return one_of(key.strip(), self._keys) and scheme.lower() == b"bearer"


class RequireApiKey:
    """ASGI middleware that requires an API key for POST requests, which price. Other methods need no key.

    Admin routes check the admin key themselves.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
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
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_admin_bearer)]
) -> None:
    """Dependency of the admin routes.

    Raises:
        ForbiddenError: no admin key is set.
        UnauthorizedError: the request does not have the admin key.
    """
    key = request.app.state.settings.admin_key
    if not key:
        raise ForbiddenError(NO_ADMIN_KEY)
    if credentials is None or not one_of(credentials.credentials.encode(), [key.encode()]):
        metrics.refused.labels("unauthorized").inc()
        raise UnauthorizedError(NOT_ADMIN)


def document(openapi: dict[str, Any]) -> None:
    """Add the API key to the operations of the OpenAPI document that require one."""
    schemes = openapi.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["ApiKey"] = {"type": "http", "scheme": "bearer", "description": "One of API_KEYS of the Secret `fastapi`."}
    for path, operations in openapi["paths"].items():
        if "post" in operations and not path.startswith(ADMIN):
            operations["post"]["security"] = [{"ApiKey": []}]
            operations["post"]["responses"]["401"] = {
                "description": "No API key, or an unknown one.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
            }
