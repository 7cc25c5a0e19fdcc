"""Traefik serves the Ingresses of the platform with TLS, as on K3s: each address asks for a login, and serves no more.

The certificate is from an authority made for the tests. At the end, the Ingress of Prometheus leads past the login of
the platform to a middleware of Traefik, as docs/how-to/publish-a-page.md describes it.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha1, sha256
from http.client import HTTPConnection
from pathlib import Path
from socket import create_connection
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from playwright.sync_api import expect

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, as_list, forward, kube, secret
from ci.common.paths import CHECKOUT
from ci.common.sample_listing import LISTING
from ci.deploy import api_keys, platform, workloads
from ci.deploy.secrets import ROLES
from ci.traefik import install as traefik
from core.model.bundle import MANIFEST
from tests.kit import browser as browsers
from tests.kit.browser import TIMEOUT, Tab
from tests.kit.damaged_bundles import Damaged
from tests.kit.platform_data import mlflow_login, trusted
from tests.kit.promotions import Registrar

from .conftest import Fed

pytestmark = pytest.mark.e2e

DOMAIN = "house.test"
HOSTS = {
    "streamlit.ingress": DOMAIN,
    "airflow.ingress": f"airflow.{DOMAIN}",
    "fastapi.ingress": f"api.{DOMAIN}",
    "mlflow.ingress": f"mlflow.{DOMAIN}",
    "monitoring.ingress.prometheus": f"prometheus.{DOMAIN}",
}
UI, AIRFLOW, API, MLFLOW, PROMETHEUS = HOSTS.values()
TLS_SECRET = "house-tls"  # a name
CLIENT = "ingress-test"  # has a key of the API
TEAM = ("team", "a password")  # in front of Prometheus
HOW_TO = (CHECKOUT / "docs/how-to/publish-a-page.md").read_text()
QUERY = "/api/v1/query?query=up"
ALIAS = "/api/2.0/mlflow/registered-models/alias?name=house-price&alias=champion"
SET_TAG = "/api/2.0/mlflow/registered-models/set-tag"
TAG = {"name": "house-price", "key": "note", "value": "of a test"}
# Forged headers of an administrator. Servers that follow CGI read `_` as `-`.
FORGED = {
    "X-Forwarded-User": "admin",
    "X-Forwarded-Groups": "admin",
    "X-Forwarded-Email": "admin",
    "X-Auth-Request-Groups": "admin",
    "X_Forwarded_User": "admin",
    "X_Forwarded_Groups": "admin",
    "X-Forwarded-For": "127.0.0.1",
    "X-Real-Ip": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
}
# Paths of the predictor that are not for clients, and other spellings of them.
CLOSED = (
    *("/metrics", "/metrics/", "//metrics", "/./metrics", "/predict/../metrics", "/predict/%2e%2e/metrics"),
    *("/predict/..%2fmetrics", "/%6detrics", "/METRICS", "/metrics;x=/predict", "/health/live/../../metrics"),
    *("/admin/reload", "/predict/../admin/reload", "/docs", "/openapi.json", "/", "/predict/", "/..%5cmetrics"),
)


@dataclass(frozen=True)
class Front:
    """The ingress controller, through tunnels to its ports for TLS and for plain HTTP."""

    tls: str
    plain: str
    trusted: ssl.SSLContext
    key: str  # of the API

    def ask(
        self,
        host: str,
        path: str = "/",
        method: str = "GET",
        *,
        tls: bool = True,
        auth: tuple[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers in lower case, and body. The path is sent as it is written here."""
        port = urlsplit(self.tls if tls else self.plain).port
        connection = HTTPConnection(host)
        raw = create_connection(("127.0.0.1", port), timeout=30)
        connection.sock = self.trusted.wrap_socket(raw, server_hostname=host) if tls else raw
        sent = {"Accept": "text/html", **(headers or {})}
        if auth:
            sent["Authorization"] = f"Basic {b64encode(':'.join(auth).encode()).decode()}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            lowered = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, lowered, answer.read().decode(errors="replace")
        finally:
            connection.close()


def bearer(key: str) -> dict[str, str]:
    """The header with a key of the API."""
    return {"Authorization": f"Bearer {key}"}


def values() -> list[str]:
    """Enable the Ingresses."""
    chosen = ["global.ingress.className=traefik", "global.ingress.namespace=kube-system"]
    chosen.append("fastapi.config.requireApiKey=true")
    for where, host in HOSTS.items():
        chosen += [f"{where}.enabled=true", f"{where}.host={host}", f"{where}.tlsSecret={TLS_SECRET}"]
    return chosen


def values_of_the_how_to() -> list[str]:
    """Put the middleware of the documentation in front of Prometheus, past the login of the platform."""
    page, key = "monitoring.ingress.prometheus", r"traefik\.ingress\.kubernetes\.io/router\.middlewares"
    return [f"{page}.iKnowThisIsOpen=true", f"{page}.annotations.{key}={PLATFORM}-login@kubernetescrd"]


def objects(authority: trustme.CA) -> str:
    """Certificate of all hosts, and users of the middleware, as Secrets."""
    leaf = authority.issue_cert(DOMAIN, f"*.{DOMAIN}")
    name, password = TEAM
    users = f"{name}:{{SHA}}{b64encode(sha1(password.encode()).digest()).decode()}"  # noqa: S324  # a format of htpasswd
    data = {
        TLS_SECRET: {
            "tls.key": leaf.private_key_pem.bytes().decode(),
            "tls.crt": "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems),
        },
        "login-users": {"users": users},
    }
    return as_list(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls" if "tls.key" in content else "Opaque",
            "metadata": {"name": name, "namespace": PLATFORM},
            "stringData": content,
        }
        for name, content in data.items()
    )


def middleware() -> str:
    """The middleware of the how-to page."""
    [text] = re.findall(r"kubectl apply -f - <<'END'\n(.*?)\nEND", HOW_TO, re.DOTALL)
    return str(text)


@pytest.fixture(scope="module")
def front(fed: Fed, installed: list[str]) -> Iterator[Front]:
    """The platform with all its Ingresses, and Traefik. Both are as before at the end."""
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    made = [objects(authority), middleware()]
    if CLIENT in api_keys.clients():  # of an interrupted run
        api_keys.revoke(CLIENT)
    key = api_keys.make(CLIENT)
    traefik.up()
    try:
        for each in made:
            kube("apply", "-f", "-", stdin=each)
        platform.install("kind", [*installed, *values()])
        workloads.wait_ready()
        rolled_out()  # until then, earlier predictors answer without a key
        with ExitStack() as tunnels:
            tls, plain = (tunnels.enter_context(forward("kube-system", "service/traefik", port)) for port in (443, 80))
            front = Front(tls, plain, trusted, key)
            wait_for("Traefik to serve the API", lambda: serves(front), 60, every=1)
            yield front
    finally:
        platform.install("kind", installed)
        for each in made:
            kube("delete", "--ignore-not-found", "-f", "-", stdin=each)
        traefik.remove()
        api_keys.revoke(CLIENT)
        workloads.wait_ready()
        rolled_out()


def rolled_out() -> None:
    """Wait until every predictor has the values of the last installation."""
    kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)


def serves(front: Front) -> bool:
    """Whether Traefik has the Ingresses and the certificate."""
    try:
        return front.ask(API, "/health/ready")[0] == 200
    except ssl.SSLCertVerificationError:  # Traefik's own certificate
        return False


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    """The passwords of the local users."""
    values = secret(PLATFORM, "oauth2-proxy")
    return {role: values[f"{role.upper()}_PASSWORD"] for role in ROLES}


def test_every_address_asks_for_a_login(front: Front) -> None:
    answers = {host: front.ask(host) for host in (UI, AIRFLOW, MLFLOW, PROMETHEUS)}
    assert {host: status for host, (status, _, _) in answers.items()} == dict.fromkeys(answers, 403)
    for _, _, body in answers.values():
        assert "<title>Sign in</title>" in body


def test_no_address_answers_over_plain_http(front: Front) -> None:
    """So nobody sends a password in plain text."""
    assert {host: front.ask(host, tls=False)[0] for host in HOSTS.values()} == dict.fromkeys(HOSTS.values(), 404)
    assert front.ask(API, "/health/live", tls=False)[0] == 404


def test_role_decides_and_forged_headers_do_not(front: Front, passwords: dict[str, str]) -> None:
    requests: dict[str, tuple[str, str, str, object]] = {
        "web UI": (UI, "GET", "/_stcore/health", None),
        "metrics": (PROMETHEUS, "GET", QUERY, None),
        "models": (MLFLOW, "GET", ALIAS, None),
        "change of a model": (MLFLOW, "POST", SET_TAG, TAG),
        "runs": (AIRFLOW, "GET", "/api/v2/dags/house_price_pipeline/dagRuns?limit=1", None),
        "start of a run": (AIRFLOW, "POST", "/api/v2/dags/no_such_dag/dagRuns", {"logical_date": None}),
        "connections": (AIRFLOW, "GET", "/api/v2/connections", None),
        "state of the API": (API, "GET", "/health/ready", None),
        "price without a key": (API, "POST", "/predict", LISTING),
    }
    people = {"anonymous": None, **{role: (role, passwords[role]) for role in ROLES}}
    answers = {}
    for what, (host, method, path, body) in requests.items():
        answers[what] = tuple(
            front.ask(host, path, method, auth=auth, body=body, headers=FORGED)[0] for auth in people.values()
        )
        say(f"| {what} | {' | '.join(map(str, answers[what]))} |")
    assert answers == {
        "web UI": (403, 200, 200, 200),
        "metrics": (403, 403, 200, 200),
        "models": (403, 200, 200, 200),
        "change of a model": (403, 403, 403, 200),
        "runs": (403, 200, 200, 200),
        "start of a run": (403, 403, 404, 404),  # no DAG has this name
        "connections": (403, 403, 403, 200),
        "state of the API": (200, 200, 200, 200),
        "price without a key": (401, 401, 401, 401),  # a password is not a key
    }


def test_api_answers_clients_with_a_key(front: Front) -> None:
    status, _, body = front.ask(API, "/predict", "POST", body=LISTING, headers=bearer(front.key))
    assert status == 200, body
    assert json.loads(body)["price"] > 0
    assert front.ask(API, "/predict", "POST", body=LISTING)[0] == 401
    assert front.ask(API, "/predict", "POST", body=LISTING, headers=bearer("guessed"))[0] == 401


@pytest.mark.parametrize("path", CLOSED)
def test_api_serves_no_path_that_is_not_for_clients(front: Front, path: str) -> None:
    status, _, body = front.ask(API, path, headers=bearer(front.key))
    assert status in (400, 404), f"{path}: {status} {body[:200]}"
    assert "house_" not in body


@pytest.mark.long
def test_revoked_key_is_refused_without_a_restart(front: Front) -> None:
    """The kubelets update the files of the pods, so it takes up to two minutes."""

    def status(key: str) -> int:
        return front.ask(API, "/predict", "POST", body=LISTING, headers=bearer(key))[0]

    name = f"{CLIENT}-2"
    key = api_keys.make(name)
    began = time.monotonic()
    wait_for("the new key to be valid", lambda: {status(key) for _ in range(10)} == {200}, 180, every=1)
    made = time.monotonic() - began
    api_keys.revoke(name)
    began = time.monotonic()
    wait_for("the revoked key to be refused", lambda: {status(key) for _ in range(10)} == {401}, 180, every=1)
    say(f"a new key was valid after {made:.0f} s, and refused {time.monotonic() - began:.0f} s after it was revoked")
    assert status(front.key) == 200


def test_unknown_host_gets_nothing(front: Front) -> None:
    assert front.ask(f"other.{DOMAIN}")[0] == 404
    # the certificate is for one host, the request for another one: an attempt to get past a rule for the first
    assert front.ask(API, "/", headers={"Host": UI})[0] in (403, 404, 421)


def test_person_signs_in_uses_the_page_and_uploads_a_file(front: Front, passwords: dict[str, str]) -> None:
    mapped = f"MAP {DOMAIN} 127.0.0.1:{urlsplit(front.tls).port}"
    site = f"https://{DOMAIN}"
    with browsers.running(f"--host-resolver-rules={mapped}") as browser:
        tab = Tab(browser, site, ignore_https_errors=True)  # the other tests check the certificate
        tab.page.goto(f"{site}/files")
        expect(tab.page).to_have_title("Sign in")
        tab.page.get_by_label("User").fill("viewer")
        tab.page.get_by_label("Password").fill(passwords["viewer"])
        tab.page.get_by_role("button").click()
        expect(tab.page.get_by_test_id("stSidebar")).to_contain_text("Signed in as viewer", timeout=TIMEOUT)
        assert tab.page.url.startswith(f"{site}/files")
        content = b"city,state,zip_code,bed,house_size\n" + b"Agawam,Massachusetts,1001,3,1500\n" * 3
        upload = {"name": "three.csv", "mimeType": "text/csv", "buffer": content}
        tab.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(upload)  # type: ignore[arg-type]
        tab.page.get_by_role("button", name="Estimate the prices").click()
        priced = tab.page.get_by_test_id("stMetric").filter(has_text="Rows with a price")
        expect(priced.get_by_test_id("stMetricValue")).to_have_text("3", timeout=TIMEOUT)
        cookies = [one for one in tab.page.context.cookies() if one.get("name") == "__Host-house-streamlit"]
        assert cookies
        assert all(one.get("secure") and one.get("httpOnly") for one in cookies), "a script or plain HTTP can read it"
        assert not tab.others
        assert not tab.errors


def test_tunnel_past_the_controller_needs_the_login_as_well(front: Front) -> None:
    """The rights of a page do not depend on the way to it."""
    with forward(PLATFORM, "service/oauth2-proxy", 8501) as url:
        answer = httpx.get(f"{url}/_stcore/health", headers=FORGED, timeout=20)
        say(f"without a login: {answer.status_code}")
        assert answer.status_code == 403


def test_predictor_behind_the_ingress_follows_the_champion(front: Front, tmp_path: Path) -> None:
    def served() -> set[str]:
        return {json.loads(front.ask(API, "/version")[2])["model_version"] for _ in range(10)}

    with trusted() as trust, forward(PLATFORM, "service/mlflow", 5000) as url:
        registrar = Registrar(url, "house-price", "champion", trust, mlflow_login())
        copy = tmp_path / "copy"
        champion = registrar.champion(copy)
        manifest = sha256((copy / MANIFEST).read_bytes()).hexdigest()
        version = registrar.register(Damaged("a copy of the champion", copy, manifest))
        assert served() == {champion}
        registrar.promote(version)
        try:
            wait_for(f"version {version} behind the Ingress", lambda: served() == {version}, 60, every=1)
        finally:
            registrar.promote(champion)
            wait_for(f"version {champion} behind the Ingress", lambda: served() == {champion}, 60, every=1)
            registrar.remove()


def test_middleware_of_the_documentation_protects_prometheus(
    front: Front, installed: list[str], passwords: dict[str, str]
) -> None:
    platform.install("kind", [*installed, *values(), *values_of_the_how_to()])
    wait_for("the middleware", lambda: front.ask(PROMETHEUS, QUERY)[0] == 401, 60, every=1)
    assert "basic" in front.ask(PROMETHEUS, QUERY)[1]["www-authenticate"].lower()
    assert front.ask(PROMETHEUS, QUERY, auth=("team", "guessed"))[0] == 401
    assert front.ask(PROMETHEUS, QUERY, auth=("admin", passwords["admin"]))[0] == 401
    status, _, body = front.ask(PROMETHEUS, QUERY, auth=TEAM)
    assert (status, json.loads(body)["status"]) == (200, "success")
