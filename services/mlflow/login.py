"""Users of MLflow and their rights: the authorization function of MLflow's basic-auth app.

The Secret `mlflow` has the passwords, as environment variables. `pipeline` and `admin` may do everything, `predictor`
and `viewer` may only read. MLflow's app keeps users in a database, and takes one password of each from it. Here that
database is made at every start, with the names only, so the Secret is the one place of a password.

People whom the login of the platform (charts/oauth2-proxy) signs in come with their own names, the password of the
login and their groups. They have the rights of `admin` or of `viewer`.

For MLflow's own rules, all users are administrators: to others it answers 403 instead of 404 for a model that does not
exist, so a predictor could not tell a missing model from a wrong password. `authenticate` keeps readers from changes.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

from flask import Response, g, make_response, request
from mlflow.version import VERSION
from werkzeug.datastructures import Authorization

WRITERS = ("pipeline", "admin")
READERS = ("predictor", "viewer")
LOGIN = "login"  # the login of the platform; only its password counts, because it sends the names of people
GROUPS = "X-Forwarded-Groups"  # header of the login
METRICS = "metrics"  # has no password, and may only get /metrics, which needs no login
READING = ("GET", "HEAD", "OPTIONS")
# Paths of POST requests that only read. Paths of artifacts are not among them: a file may have any name.
SEARCHES = re.compile(
    r"/graphql"
    r"|/(ajax-)?api/\d\.\d/?mlflow/([\w-]+/)+(search|search-datasets|get-latest-versions|batchGetInfos|metrics)"
)
LOGGED_BYTES = 400  # of a request's body in the log


def _variable(user: str) -> str:
    return f"{user.upper()}_PASSWORD"


def prepare() -> None:
    """Make the database of users, and set the environment of MLflow's basic-auth app, which reads it.

    Raises:
        SystemExit: a user has no password.
    """
    users = WRITERS + READERS
    if missing := [_variable(user) for user in (*users, LOGIN) if not os.environ.get(_variable(user))]:
        raise SystemExit(f"MLflow's users need passwords: set {', '.join(missing)} (`make secrets` creates them)")
    folder = Path(tempfile.mkdtemp(prefix="mlflow-login-"))
    config = ConfigParser()
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder}/users.db",
        "authorization_function": f"{__name__}:authenticate",
    }
    with (folder / "config.ini").open("w") as file:
        config.write(file)
    os.environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "config.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_hex(24),  # is never compared with anything
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
    }
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(config["mlflow"]["database_uri"])
    for user in (*users, METRICS):
        store.create_user(user, secrets.token_hex(24), is_admin=True)


def authenticate() -> Authorization | Response:
    """The user of the current request, or the answer to a request that is not let in. MLflow calls it."""
    if request.path == "/version":
        return make_response(VERSION, 200)
    if request.path == "/ready":
        return _ready()
    if request.path == "/metrics" and request.method == "GET":
        return Authorization("basic", {"username": METRICS})
    login = _login()
    if login is None:
        answer = make_response("MLflow needs a login: the Secret mlflow has the passwords of its users\n", 401)
        answer.headers["WWW-Authenticate"] = 'Basic realm="mlflow"'
        return answer
    person, user = login
    if user in READERS and not _only_reads():
        _log(person, "refused")
        return make_response(f"the user {person} may only read\n", 403)
    if user == "admin" and not _only_reads():
        _log(person, "allowed")
    return Authorization("basic", {"username": user})


def _login() -> tuple[str, str] | None:
    """The name of the client and the user whose rights it has; None without a valid password."""
    login = request.authorization
    if login is None or login.type != "basic" or not login.username:
        return None
    if _is_password_of(LOGIN, login.password):
        admins = set(filter(None, os.environ.get("LOGIN_ADMIN_GROUPS", "").split(",")))
        groups = set(request.headers.get(GROUPS, "").split(","))
        return login.username, "admin" if admins & groups else "viewer"
    if login.username in WRITERS + READERS and _is_password_of(login.username, login.password):
        return login.username, login.username
    return None


def _is_password_of(user: str, password: str | None) -> bool:
    return hmac.compare_digest((password or "").encode(), os.environ[_variable(user)].encode())


def _only_reads() -> bool:
    return request.method in READING or (request.method == "POST" and SEARCHES.fullmatch(request.path) is not None)


def _ready() -> Response:
    """Whether the database answers. MLflow's own /health answers 200 without it."""
    from mlflow.server.handlers import _get_tracking_store

    try:
        _get_tracking_store().search_experiments(max_results=1)
    except Exception as error:  # noqa: BLE001  # whatever is wrong, the server cannot work
        print(f"the database does not answer: {error}", file=sys.stderr, flush=True)
        return make_response("the database does not answer: see the log\n", 503)
    return make_response("ready\n", 200)


def _log(user: str, outcome: str) -> None:
    """Write what a person changes, or what is refused, to the log. MLflow asks several times about one request."""
    if g.get("house_logged"):
        return
    g.house_logged = True
    hidden = "/mlflow-artifacts/" in request.path or "/users/" in request.path  # files, and new passwords
    body = "" if hidden else request.get_data()[:LOGGED_BYTES].decode(errors="replace")
    line = {"event": "change", "user": user, "outcome": outcome, "method": request.method, "path": request.path}
    print(json.dumps({**line, "body": body}), file=sys.stderr, flush=True)
