"""Everyone needs a login for MLflow, and only the pipeline and the administrator may change something."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ci.common.paths import CHECKOUT
from ci.local.processes import MLFLOW_PYTHON, LocalPlatform
from core.errors import RegistryError
from core.stores.registry import RegistryClient
from tests.services.pipeline.command import in_own_process

pytestmark = pytest.mark.services

SOURCE = CHECKOUT / "services" / "mlflow"
USERS = {"pipeline": "p" * 20, "admin": "a" * 20, "predictor": "r" * 20, "viewer": "v" * 20}
LOGIN_PASSWORD = "l" * 20  # of the login of the platform
PASSWORDS = {f"{user.upper()}_PASSWORD": password for user, password in USERS.items()}
PASSWORDS |= {"LOGIN_PASSWORD": LOGIN_PASSWORD, "LOGIN_ADMIN_GROUPS": "house-admins,root"}
WRITERS, READERS = ("pipeline", "admin"), ("predictor", "viewer")
OPEN = {"/health", "/version", "/ready", "/metrics", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"}
API = "/api/2.0/mlflow"
NAME = {"name": "house-price"}
# (method, path, body) of requests that a reader needs, and of changes that no reader may make
READS = [
    ("GET", f"{API}/experiments/search?max_results=1", None),
    ("POST", f"{API}/runs/search", {"experiment_ids": ["0"]}),
    ("POST", "/ajax-api/2.0/mlflow/logged-models/search", {"experiment_ids": ["0"]}),
    ("GET", f"{API}/registered-models/alias?name=house-price&alias=champion", None),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=0", None),
    ("GET", "/", None),
]
WRITES = [
    ("POST", f"{API}/registered-models/create", {"name": "another"}),
    ("POST", f"{API}/registered-models/alias", {**NAME, "alias": "champion", "version": "1"}),
    ("DELETE", f"{API}/registered-models/alias", {**NAME, "alias": "champion"}),
    ("POST", f"{API}/model-versions/create", {**NAME, "source": "mlflow-artifacts:/0/models/m/artifacts"}),
    ("POST", f"{API}/experiments/create", {"name": "another"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "0"}),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/file.txt", {"a": 1}),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/file.txt", None),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/0/search", {"path": "search", "num_parts": 1}),
    ("POST", f"{API}/users/create", {"username": "eve", "password": "a long password"}),
    ("PATCH", f"{API}/users/update-admin", {"username": "nobody", "is_admin": True}),
    ("PATCH", f"{API}/users/update-password", {"username": "nobody", "password": "another password"}),
]
# every route of the server with its methods, of MLflow's Flask and FastAPI applications
ROUTES = """
import json, os, sys, tempfile
sys.path.insert(0, sys.argv[1])
import login
login.prepare()
os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
from mlflow.server import app
from mlflow.server.auth import create_app
native = create_app()
routes = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods}
routes |= {(path, method.upper()) for path, methods in native.openapi()["paths"].items() for method in methods}
print(json.dumps(sorted(routes)))
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """MLflow that asks for a login, and has the model house-price."""
    with LocalPlatform(tmp_path_factory.mktemp("login")) as started:
        started.start_mlflow(passwords=PASSWORDS)
        with client(started, "admin") as admin:
            created = admin.post(f"{API}/registered-models/create", json=NAME)
            assert created.status_code == 200, created.text
        yield started


def client(platform: LocalPlatform, user: str, password: str = "") -> httpx.Client:
    """A client of the server; without a user it has no login."""
    login = (user, password or USERS[user]) if user else None
    return httpx.Client(base_url=platform.mlflow_url, auth=login, timeout=30)


def status(http: httpx.Client, method: str, path: str, body: object = None) -> int:
    return http.request(method, path, json=body).status_code if body else http.request(method, path).status_code


@pytest.mark.parametrize("user", USERS)
def test_each_user_may_do_what_its_role_says(platform: LocalPlatform, user: str) -> None:
    with client(platform, user) as http:
        assert {path: status(http, *request) for request in READS if (path := request[1])}.items() >= {
            ("/", 200), (f"{API}/experiments/search?max_results=1", 200), (f"{API}/runs/search", 200)
        }  # fmt: skip
        answers = {f"{method} {path}": status(http, method, path, body) for method, path, body in READS + WRITES}
    changes = {f"{method} {path}" for method, path, _ in WRITES}
    refused = {request for request, answer in answers.items() if answer in (401, 403)}
    assert refused == (changes if user in READERS else set()), answers


@pytest.mark.parametrize(
    "login", [("", ""), ("admin", "wrong"), ("admin", USERS["viewer"]), ("eve", "a long password")]
)
def test_nothing_is_answered_without_a_valid_login(platform: LocalPlatform, login: tuple[str, str]) -> None:
    with client(platform, *login) as http:
        answers = {(method, path): status(http, method, path, body) for method, path, body in READS + WRITES}
    assert answers == {(method, path): 401 for method, path, _ in READS + WRITES}


@pytest.mark.parametrize(
    ("person", "groups", "writes"),
    [
        ("ada@house.example", "staff,house-admins", True),
        ("otto", "root", True),
        ("vera", "house-viewers", False),
        ("admin", "house-viewers", False),  # a name gives no right
        ("pipeline", "", False),
        ("eve", "house-admin,house-admins2,HOUSE-ADMINS", False),
    ],
)
def test_person_of_the_login_has_the_rights_of_its_groups(
    platform: LocalPlatform, person: str, groups: str, writes: bool
) -> None:
    with httpx.Client(
        base_url=platform.mlflow_url, auth=(person, LOGIN_PASSWORD), headers={"X-Forwarded-Groups": groups}, timeout=30
    ) as http:
        answers = {f"{method} {path}": status(http, method, path, body) for method, path, body in READS + WRITES}
    changes = {f"{method} {path}" for method, path, _ in WRITES}
    assert {request for request, answer in answers.items() if answer in (401, 403)} == (set() if writes else changes)


@pytest.mark.parametrize("user", ["viewer", "predictor"])
def test_groups_of_a_client_that_is_not_the_login_do_not_count(platform: LocalPlatform, user: str) -> None:
    with client(platform, user) as http:
        http.headers["X-Forwarded-Groups"] = "house-admins"
        assert {status(http, method, path, body) for method, path, body in WRITES} == {403}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every path of MLflow, with a value in place of each variable, and its method."""
    done = subprocess.run(
        [MLFLOW_PYTHON, "-c", ROUTES, str(SOURCE)], env={"PATH": "/usr/bin:/bin", **PASSWORDS}, capture_output=True,
        text=True, check=False, cwd=tmp_path_factory.mktemp("routes"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rules = [(path, method) for path, method in json.loads(done.stdout.splitlines()[-1]) if method != "OPTIONS"]
    assert len(rules) > 400
    assert {("/v1/traces", "POST"), ("/api/2.0/mlflow/registered-models/alias", "POST")} <= set(rules)  # of both
    return [("/".join("x" if part[:1] in "<{" and part else part for part in path.split("/")), method)
            for path, method in rules]  # fmt: skip


def test_every_route_needs_a_login(platform: LocalPlatform, routes: list[tuple[str, str]]) -> None:
    with client(platform, "") as http:
        answers = {(path, method): status(http, method, path) for path, method in routes}
    let_in = {request: answer for request, answer in answers.items() if answer not in (401, 403, 405)}
    assert {path for path, _ in let_in} <= OPEN | {"/static-files/x"}, let_in


@pytest.mark.parametrize("user", READERS)
def test_no_route_lets_a_reader_change_something(
    platform: LocalPlatform, routes: list[tuple[str, str]], user: str
) -> None:
    """A POST that only reads is one of a few, by the end of its path."""
    with client(platform, user) as http:
        changes = [(path, method) for path, method in routes if method not in ("GET", "HEAD")]
        let_in = {path for path, method in changes if status(http, method, path, {"a": 1}) != 403}
    reading = ("/search", "/search-datasets", "/get-latest-versions", "/batchGetInfos", "/traces/metrics", "/graphql")
    assert {path for path in let_in if not path.endswith(reading)} == set()
    assert f"{API}/runs/search" in let_in


def test_pipeline_works_with_its_login_and_with_no_other(platform: LocalPlatform) -> None:
    settings = platform.stage_environment(ledger_dsn="postgresql://127.0.0.1:9/none")
    done = {}
    for user in ("pipeline", "predictor"):
        login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": USERS[user]}
        done[user] = in_own_process(settings | login, "smoke")
    assert {user: run.returncode for user, run in done.items()} == {"pipeline": 0, "predictor": 1}
    assert "may only read" in done["predictor"].stderr + done["predictor"].stdout
    assert PASSWORDS["PIPELINE_PASSWORD"] not in "".join(run.stdout + run.stderr for run in done.values())


def test_registry_client_reads_as_a_reader_and_names_the_variables_without_a_login(platform: LocalPlatform) -> None:
    reader = RegistryClient(platform.mlflow_url, ("predictor", USERS["predictor"]))
    assert reader.version_by_alias("house-price", "champion") is None
    assert reader.version_by_alias("a model that does not exist", "champion") is None
    assert reader.version("a model that does not exist", "1") is None
    for login in (("", ""), ("predictor", "wrong")):
        with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME and _PASSWORD"):
            RegistryClient(platform.mlflow_url, login).version_by_alias("house-price", "champion")


def test_changes_by_the_administrator_and_refused_ones_are_in_the_log(platform: LocalPlatform) -> None:
    tag = {**NAME, "key": "note", "value": "by hand"}
    for user in ("admin", "viewer", "pipeline"):
        with client(platform, user) as http:
            status(http, "POST", f"{API}/registered-models/set-tag", tag)
            status(http, "PATCH", f"{API}/users/update-password", {"username": "by hand", "password": "a new secret"})
    log = (platform.folder / "mlflow.log").read_text().splitlines()
    lines = [json.loads(line) for line in log if line.startswith('{"event": "change"') and "by hand" in line]
    assert [(line["user"], line["outcome"], line["path"]) for line in lines] == [
        ("admin", "allowed", f"{API}/registered-models/set-tag"),
        ("viewer", "refused", f"{API}/registered-models/set-tag"),
    ]
    assert not [password for password in (*USERS.values(), "a new secret") if password in "\n".join(log)]


def test_log_names_the_person_of_the_login(platform: LocalPlatform) -> None:
    tag = {**NAME, "key": "note", "value": "through the login"}
    for person, groups in (("ada", "root"), ("vera", "staff")):
        headers = {"X-Forwarded-Groups": groups}
        httpx.post(f"{platform.mlflow_url}{API}/registered-models/set-tag", json=tag, auth=(person, LOGIN_PASSWORD),
                   headers=headers, timeout=30)  # fmt: skip
    log = (platform.folder / "mlflow.log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if "through the login" in line]
    assert [(line["user"], line["outcome"]) for line in lines] == [("ada", "allowed"), ("vera", "refused")]
    assert LOGIN_PASSWORD not in log


def test_server_without_a_password_does_not_start(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", **PASSWORDS, "ADMIN_PASSWORD": "", "VIEWER_PASSWORD": ""}
    done = subprocess.run(
        [MLFLOW_PYTHON, SOURCE / "serve.py", "server", "--app-name=basic-auth"], env=environment, capture_output=True,
        text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "MLflow's users need passwords: set ADMIN_PASSWORD, VIEWER_PASSWORD " in done.stderr


def test_ready_only_while_the_database_answers(platform: LocalPlatform) -> None:
    with client(platform, "") as http:
        assert status(http, "GET", "/ready") == 200
        platform.stop_postgres()
        try:
            assert status(http, "GET", "/ready") == 503
        finally:
            platform.start_postgres()
        assert status(http, "GET", "/ready") == 200
