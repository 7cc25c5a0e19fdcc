"""Users of Airflow: those of its Secret, and people whom the login of the platform (charts/oauth2-proxy) signs in.

The login sends a person's name, the password of the login (HTTP Basic) and the person's groups with each request. The
request then has the rights of the person's role, for itself alone: there is no second session, and a group that a
person loses has no effect any more. Airflow finds this module on PYTHONPATH.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from starlette.types import ASGIApp, Receive, Scope, Send

# Highest role first: the role of Airflow, and the variable with the groups that have it. Connections and variables have
# passwords, so they are for admins.
ROLES = {"ADMIN": "LOGIN_ADMIN_GROUPS", "USER": "LOGIN_OPERATOR_GROUPS", "VIEWER": "LOGIN_VIEWER_GROUPS"}
TOKEN_SECONDS = 60  # of the token inside of one request
SIGN_OUT = "/oauth2/sign_out?rd=%2F"  # path of the login


class HouseAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager, which also lets in the people of the login.

    Operators start, clear, mark and pause runs. Only admins delete something, or write the results that one stage gives
    to the next.
    """

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: SimpleAuthManagerUser,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """Whether a user may do this to a DAG or a part of it."""
        harmful = method == "DELETE" or (access_entity is DagAccessEntity.XCOM and method != "GET")
        if harmful and user.role != "ADMIN":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)

    def get_fastapi_middlewares(self) -> list[Any]:
        """Add the middleware that lets them in."""
        return [*super().get_fastapi_middlewares(), (LoginMiddleware, {})]


class LoginMiddleware:
    """Replaces the credentials of the login by a token of Airflow for the person."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        user = person(Headers(scope=scope)) if scope["type"] == "http" else None
        if user is None:
            await self.app(scope, receive, send)
        elif scope["path"].endswith("/auth/logout"):
            await RedirectResponse(SIGN_OUT)(scope, receive, send)
        elif scope["path"].endswith("/auth/login"):
            # Airflow's pages ask for it when the session of the login has ended; now there is a new one
            await RedirectResponse(_next(Request(scope)))(scope, receive, send)
        else:
            from airflow.api_fastapi.app import get_auth_manager

            token = get_auth_manager().generate_jwt(user, expiration_time_in_seconds=TOKEN_SECONDS)
            others = [pair for pair in scope["headers"] if pair[0] not in (b"authorization", b"cookie")]
            headers = [*others, (b"authorization", f"Bearer {token}".encode())]
            await self.app({**scope, "headers": headers}, receive, send)


def _next(request: Request) -> str:
    """The page that a person wanted to see."""
    from airflow.api_fastapi.core_api.security import is_safe_url

    wanted = request.query_params.get("next", "")
    return wanted if wanted and is_safe_url(wanted, request=request) else "/"


def person(headers: Headers) -> SimpleAuthManagerUser | None:
    """The person of a request that the login sent; None for other requests, and for a person without a role."""
    kind, _, encoded = headers.get("Authorization", "").partition(" ")
    expected = os.environ.get("LOGIN_PASSWORD", "")
    if kind.lower() != "basic" or not expected:
        return None
    try:
        name, _, password = b64decode(encoded, validate=True).decode().partition(":")
    except (NotBase64, UnicodeDecodeError):
        return None
    if not name or not hmac.compare_digest(password.encode(), expected.encode()):
        return None
    groups = set(filter(None, headers.get("X-Forwarded-Groups", "").split(",")))
    role = next((role for role, names in ROLES.items() if groups & set(os.environ.get(names, "").split(","))), None)
    return SimpleAuthManagerUser(username=name, role=role) if role else None
