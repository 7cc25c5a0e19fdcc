"""Keys as bearer tokens (`Authorization: Bearer <key>`): the keys of clients, and the admin key."""

from __future__ import annotations

import hmac
import math
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from predictor import metrics
from predictor.errors import ForbiddenError, UnauthorizedError
from predictor.http.client_keys import Client, ClientKeys
from predictor.http.errors import CHALLENGE

ADMIN = "/admin/"
COMPARABLES = "/comparables"  # returns rows of the training data
NO_ADMIN_KEY = (
    "admin routes are closed because no admin key is set: run `make secrets`, which puts ADMIN_KEY into the Secret "
    "`fastapi`, and restart the pods"
)
NO_KEY = (
    "the request has no valid API key: send the key that `make api-key` printed for you, or one of API_KEYS in the "
    "Secret `fastapi`, as `Authorization: Bearer <key>`"
)
_REFUSALS = {
    "401": "No API key, or an unknown one.",
    "429": "The client sent more requests per second than its limit. `Retry-After` has the seconds to wait.",
}
NOT_ADMIN = (
    "the request does not have the admin key: send ADMIN_KEY of the Secret `fastapi` as `Authorization: Bearer <key>`"
)


def split_keys(keys: str) -> list[str]:
    """The keys of a comma-separated list."""
    return [key.strip() for key in keys.split(",") if key.strip()]


class ApiKeys:
    """Admits requests of clients with a key, within the rate limit of the client."""

    def __init__(self, clients: ClientKeys) -> None:
        self._clients = clients

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is refused; None if it is admitted.

        It is decided and counted once per request, although the fast path and the middleware both ask.
        """
        state: dict[str, Any] = scope.setdefault("state", {})
        if "refusal" not in state:
            state["refusal"] = self._decide(scope)
        refusal: Response | None = state["refusal"]
        return refusal

    def _decide(self, scope: Scope) -> Response | None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = header.partition(b" ")
        client = self._clients.find(key.strip()) if scheme.lower() == b"bearer" else None
        if client is None:
            metrics.refused.labels("unauthorized").inc()
            return JSONResponse({"detail": NO_KEY}, 401, CHALLENGE)
        seconds = client.bucket.take() if client.bucket else 0
        metrics.client_requests.labels(client.name, "rate_limited" if seconds else "accepted").inc()
        if not seconds:
            return None
        metrics.refused.labels("rate_limited").inc()
        return _too_many(client, math.ceil(seconds))


def _too_many(client: Client, seconds: int) -> Response:
    limit = client.bucket.per_second if client.bucket else math.inf
    detail = (
        f"the client {client.name} sent more than {limit:g} requests per second to this pod, its limit: retry after "
        f"{seconds} s, or send lists of listings"
    )
    return JSONResponse({"detail": detail}, 429, {"Retry-After": str(seconds)})


def needs_key(method: str, path: str) -> bool:
    """Whether a request needs an API key. Admin routes check the admin key themselves."""
    return (method == "POST" and not path.startswith(ADMIN)) or path == COMPARABLES


class RequireApiKey:
    """ASGI middleware that requires an API key for POST requests and for training rows. Other requests need no key."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 401 or 429 before its body is read."""
        keyed = scope["type"] == "http" and needs_key(scope["method"], scope["path"])
        refusal = self._keys.refusal(scope) if keyed else None
        await (refusal or self.app)(scope, receive, send)


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
    if credentials is None or not hmac.compare_digest(credentials.credentials.encode(), key.encode()):
        metrics.refused.labels("unauthorized").inc()
        raise UnauthorizedError(NOT_ADMIN)


def document(openapi: dict[str, Any]) -> None:
    """Add the API key to the operations of the OpenAPI document that require one."""
    schemes = openapi.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["ApiKey"] = {"type": "http", "scheme": "bearer", "description": "The key of a client."}
    keyed = [
        operation
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
        if needs_key(method.upper(), path)
    ]
    for operation in keyed:
        operation["security"] = [{"ApiKey": []}]
        for status, description in _REFUSALS.items():
            operation["responses"][status] = {
                "description": description,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
            }
