"""The login lets nobody pass without a session of this page, with local users and with an identity provider.

Marked e2e: compiling OAuth2 Proxy for this alone takes minutes, and `make e2e` has the image.
"""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from re import findall
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from ci.common.console import wait_for
from ci.common.kube import JOBS, PLATFORM
from ci.deploy.secrets import generate
from ci.local.processes import answers, free_port
from tests.kit.rendering import find, parse, text

from .programs import program

pytestmark = pytest.mark.e2e

SECRET = generate(PLATFORM, JOBS)[PLATFORM, "oauth2-proxy"]
PASSWORDS = {role: SECRET[f"{role.upper()}_PASSWORD"] for role in ("viewer", "operator", "admin")}
EVERYONE = {"viewer", "operator", "admin"}
ADMITTED = {"streamlit": EVERYONE, "prometheus": {"operator", "admin"}, "mlflow": EVERYONE, "airflow-api": EVERYONE}
PROOFS = {"mlflow": "mlflow-password", "airflow-api": "airflow-password"}  # keys of the Secret
IDENTITY = ("X-Forwarded-User", "X-Forwarded-Groups")
GROUPS = {"viewer": ["house-viewers"], "operator": ["house-operators"], "admin": ["house-admins", "staff"]}
MEMBERS = {"vera": ["house-viewers"], "otto": ["house-operators", "staff"], "ada": ["house-admins"], "nina": ["staff"],
           "admin": []}  # fmt: skip
PAGE = b"the page"


class Page(BaseHTTPRequestHandler):
    """A page that answers every request with the headers that it got."""

    def answer(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        body = PAGE + json.dumps(list(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@dataclass
class Door:
    """A proxy in front of a page."""

    name: str
    url: str
    page: ThreadingHTTPServer
    log: Path

    @property
    def seen(self) -> list[str]:
        """Requests that reached the page."""
        requests: list[str] = self.page.seen  # type: ignore[attr-defined]
        return requests

    def get(self, path: str = "/", cookies: str = "", **options: Any) -> httpx.Response:
        headers = {"Cookie": cookies} if cookies else {}
        return httpx.get(self.url + path, headers=headers | options.pop("headers", {}), timeout=20, **options)

    def sign_in(self, user: str, password: str, rd: str = "/") -> httpx.Response:
        form = {"username": user, "password": password, "rd": rd}
        return httpx.post(f"{self.url}/oauth2/sign_in", data=form, timeout=20)

    def session(self, user: str) -> str:
        """The cookie of a session."""
        return self.sign_in(user, PASSWORDS[user]).headers["Set-Cookie"].partition(";")[0]


def got(answer: httpx.Response) -> dict[str, str]:
    """Headers that the page got."""
    assert answer.status_code == 200, answer.text
    names = [name for name, _ in json.loads(answer.content.removeprefix(PAGE))]
    assert len([name for name in names if name.title().replace("_", "-") in IDENTITY]) <= len(IDENTITY), names
    return dict(json.loads(answer.content.removeprefix(PAGE)))


@contextmanager
def page() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.seen = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def door(name: str, folder: Path, *values: str, secret: dict[str, str] | None = None) -> Iterator[Door]:
    """Run the container of one page as the chart renders it, with its files in `folder` and a free port."""
    items = parse(text("kind", *values))
    configs = find(items, "ConfigMap", "oauth2-proxy")["data"]
    containers = find(items, "Deployment", "oauth2-proxy")["spec"]["template"]["spec"]["containers"]
    [container] = [each for each in containers if each["name"] == name]
    with page() as behind:
        port, metrics = free_port(), free_port()
        config = yaml.safe_load(configs[f"{name}.yaml"].replace("/etc/oauth2-proxy", str(folder)))
        config["server"]["bindAddress"] = f"127.0.0.1:{port}"
        config["metricsServer"]["bindAddress"] = f"127.0.0.1:{metrics}"
        config["upstreamConfig"]["upstreams"][0]["uri"] = f"http://127.0.0.1:{behind.server_port}"
        (folder / "config").mkdir(exist_ok=True)
        (folder / "secret").mkdir(exist_ok=True)
        (folder / "config" / "sign_in.html").write_text(configs["sign_in.html"])
        (folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(config))
        for key, value in (SECRET | (secret or {})).items():
            (folder / "secret" / key).write_text(value)
        words = [word.replace("/etc/oauth2-proxy", str(folder)) for word in container["args"]]
        log = folder / f"{name}.log"
        command = [str(program("oauth2-proxy", folder)), *words]
        with log.open("w") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as running:

            def ready() -> bool:
                assert running.poll() is None, log.read_text()
                return answers(f"http://127.0.0.1:{port}/ready")

            try:
                wait_for("OAuth2 Proxy", ready, 30, every=0.1)
                yield Door(name, f"http://127.0.0.1:{port}", behind, log)
            finally:
                running.terminate()


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    """The proxies of both pages, with local users."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(door(name, tmp_path_factory.mktemp(name))) for name in ADMITTED}


@pytest.mark.parametrize("name", ADMITTED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_request_without_a_session_does_not_reach_the_page(doors: dict[str, Door], name: str, method: str) -> None:
    here = doors[name]
    before = list(here.seen)
    paths = [
        *("/", "/api/v1/query?query=up", "/_stcore/stream", "/_stcore/health", "//", "/oauth2/../api/v1/query"),
        *("/oauth2/static/../../metrics", "/%2e%2e/metrics", "/ping/../metrics", "/ready/x", "/robots.txt/../x"),
    ]
    tricks: list[dict[str, str]] = [
        {},
        {"X-Forwarded-User": "admin", "X-Forwarded-Groups": "admin", "X-Forwarded-Email": "admin@house.example"},
        {"X-Original-URL": "/ping", "X-Rewrite-URL": "/ping", "X-Forwarded-Uri": "/ping"},
        {"X-HTTP-Method-Override": "OPTIONS", "X-Auth-Request-User": "admin"},
        {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "QUFB"},
        {"Authorization": "Bearer admin"},
        {"Cookie": "__Host-house-streamlit=x; __Host-house-prometheus=x; house-streamlit=admin"},
    ]
    with httpx.Client(base_url=here.url, timeout=20) as client:
        for path in paths:
            for headers in tricks:
                request = client.build_request(method, here.url + path, headers=headers)
                request.url = request.url.copy_with(raw_path=path.encode())  # as it is, without a browser's cleaning
                answer = client.send(request)
                assert PAGE not in answer.content, (path, headers)
                assert answer.status_code in (200, 301, 302, 307, 400, 401, 403, 404, 405), (path, headers, answer)
    assert here.seen == before


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize("name", ADMITTED)
def test_role_decides_which_page_opens(doors: dict[str, Door], name: str, user: str) -> None:
    here = doors[name]
    form, program = here.sign_in(user, PASSWORDS[user]), here.get(auth=(user, PASSWORDS[user]))
    if user in ADMITTED[name]:
        assert form.status_code == 302
        cookie, *attributes = form.headers["Set-Cookie"].split("; ")
        assert cookie.startswith(f"__Host-house-{name}=")
        assert {"Path=/", "HttpOnly", "Secure", "SameSite=Lax"} <= set(attributes)
        for answer in (here.get(cookies=cookie), program):
            assert [got(answer)[header] for header in IDENTITY] == [user, user]
    else:
        assert form.status_code == 401
        assert "Set-Cookie" not in form.headers
        assert "Wrong user or password" in form.text
        assert program.status_code == 403


@pytest.mark.parametrize("password", ["", "guessed", PASSWORDS["viewer"], PASSWORDS["admin"] + " "])
def test_wrong_password_is_refused(doors: dict[str, Door], password: str) -> None:
    here = doors["streamlit"]
    assert here.sign_in("admin", password).status_code == 401
    assert here.get(auth=("admin", password)).status_code == 403


@pytest.mark.parametrize("user", ["", "nobody", "viewer:", "viewer\n", "*", "' or 1=1", "<script>alert(1)</script>"])
def test_unknown_user_is_refused(doors: dict[str, Door], user: str) -> None:
    answer = doors["streamlit"].sign_in(user, PASSWORDS["viewer"])
    assert answer.status_code == (401 if user else 400)
    assert "<script>" not in answer.text


def test_session_of_one_page_does_not_open_another(doors: dict[str, Door]) -> None:
    """A viewer has a session for the web UI, and may send its value under any name."""
    name, _, value = doors["streamlit"].session("admin").partition("=")
    assert doors["streamlit"].get(cookies=f"{name}={value}").status_code == 200
    for other in (name, "__Host-house-prometheus", "house-prometheus", "_oauth2_proxy"):
        assert doors["prometheus"].get(cookies=f"{other}={value}").status_code == 403


def test_changed_session_is_refused(doors: dict[str, Door]) -> None:
    here = doors["streamlit"]
    name, _, value = here.session("viewer").partition("=")
    content, stamp, signature = value.split("|")
    for changed in (f"{content}|{int(stamp) + 9}|{signature}", f"{content[:-4]}AAA=|{stamp}|{signature}",
                    f"{content}|{stamp}|", content, f"{content}|{stamp}|{signature[::-1]}"):  # fmt: skip
        assert here.get(cookies=f"{name}={changed}").status_code == 403


def test_page_gets_the_user_of_the_session_not_of_a_header(doors: dict[str, Door]) -> None:
    here = doors["streamlit"]
    for forged in (
        {"X-Forwarded-User": "admin", "X-Forwarded-Groups": "admin"},
        {"x-forwarded-user": "admin", "X-FORWARDED-GROUPS": "admin"},
        {"X_Forwarded_User": "admin", "X_Forwarded_Groups": "admin", "X-Forwarded_Groups": "admin"},
    ):
        headers = got(here.get(cookies=here.session("viewer"), headers=forged))
        assert [headers[header] for header in IDENTITY] == ["viewer", "viewer"]
        assert "admin" not in headers.values()


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "//evil.example", r"/\evil.example", "/\t/evil.example", "https:evil.example",
     "//evil.example/%2f..", "javascript:alert(1)", "/%09/evil.example", "///evil.example", "http://[::1]@evil.example"],
)  # fmt: skip
def test_sign_in_does_not_lead_to_another_host(doors: dict[str, Door], elsewhere: str) -> None:
    here = doors["streamlit"]
    for answer in (
        here.sign_in("viewer", PASSWORDS["viewer"], rd=elsewhere),
        here.get("/oauth2/sign_out", params={"rd": elsewhere}),
    ):
        assert answer.status_code == 302
        target = httpx.URL(here.url).join(answer.headers["Location"])
        assert target.host == "127.0.0.1", answer.headers["Location"]
        assert not answer.headers["Location"].startswith(("//", "/\\", "/\t"))


def test_only_pages_with_a_login_get_the_proof_of_the_login(doors: dict[str, Door]) -> None:
    """A page without a login of its own does not get it, and the password of a visitor reaches no page."""
    forged = {"Authorization": f"Basic {b64encode(b'admin:guessed').decode()}"}
    for name, here in doors.items():
        proof = b64encode(f"operator:{SECRET.get(PROOFS.get(name, ''))}".encode()).decode()
        for answer in (
            here.get(cookies=here.session("operator")),
            here.get(cookies=here.session("operator"), headers=forged),
            here.get(auth=("operator", PASSWORDS["operator"])),
        ):
            assert got(answer).get("Authorization") == (f"Basic {proof}" if name in PROOFS else None), name


def test_page_to_sign_in_loads_nothing(doors: dict[str, Door]) -> None:
    shown = doors["streamlit"].get("/wanted?x=1")
    assert shown.status_code == 403
    assert not findall(r"(?:src|href)=", shown.text)
    assert 'value="/wanted?x=1"' in unescape(shown.text)
    assert "/oauth2/start" not in shown.text  # no button for a provider


def test_sign_out_ends_the_session_in_the_browser(doors: dict[str, Door]) -> None:
    answer = doors["streamlit"].get("/oauth2/sign_out", cookies=doors["streamlit"].session("viewer"))
    assert answer.headers["Set-Cookie"].startswith("__Host-house-streamlit=;")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


def test_log_names_who_signed_in_and_no_password(doors: dict[str, Door]) -> None:
    doors["streamlit"].sign_in("operator", PASSWORDS["operator"])
    doors["streamlit"].sign_in("operator", "a-wrong-password")
    log = doors["streamlit"].log.read_text()
    assert "operator" in log
    assert "[AuthSuccess]" in log
    assert "[AuthFailure]" in log
    assert not [password for password in (*PASSWORDS.values(), "a-wrong-password") if password in log]


def test_plain_http_gets_a_cookie_that_browsers_send(tmp_path: Path) -> None:
    with door("streamlit", tmp_path, "--set", "global.login.plainHttp=true") as here:
        cookie = here.sign_in("viewer", PASSWORDS["viewer"]).headers["Set-Cookie"]
        assert cookie.startswith("house-streamlit=")
        assert "Secure" not in cookie
        assert here.get(cookies=cookie.partition(";")[0]).status_code == 200


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An identity provider with the people of MEMBERS; yields its URL."""
    port = free_port()
    words = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    for user, groups in MEMBERS.items():
        claims = {"sub": f"id-of-{user}", "groups": groups, "email": f"{user}@house.example", "email_verified": True}
        words += ["--user-claims", json.dumps(claims)]
    log = tmp_path_factory.mktemp("provider") / "log"
    with log.open("w") as sink, subprocess.Popen(words, stdout=sink, stderr=sink) as running:

        def ready() -> bool:
            assert running.poll() is None, log.read_text()
            return answers(f"http://127.0.0.1:{port}/.well-known/openid-configuration")

        try:
            wait_for("the identity provider", ready, 30, every=0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def provided(url: str) -> tuple[str, ...]:
    """Values for this provider."""
    settings = {"issuerUrl": url, "clientId": "house", "cidr": "10.43.100.106/32"}
    login = {"plainHttp": True, "groups": GROUPS}
    return (
        "--set-json",
        f"oauth2-proxy.oidc={json.dumps(settings)}",
        "--set-json",
        f"global.login={json.dumps(login)}",
    )


def through(here: Door, user: str) -> httpx.Response:
    """Ask for the page, sign in at the provider as `user`, and follow to the last answer."""
    with httpx.Client(follow_redirects=True, timeout=20) as client:
        form = client.get(here.url)
        assert PAGE not in form.content
        assert form.url.port != httpx.URL(here.url).port, form.text
        return client.post(form.url, data={"sub": f"id-of-{user}"})


@pytest.mark.parametrize("name", ADMITTED)
def test_groups_of_the_provider_decide_which_page_opens(tmp_path: Path, provider: str, name: str) -> None:
    roles = {role: groups for role, groups in GROUPS.items() if role in ADMITTED[name]}
    allowed = {group for groups in roles.values() for group in groups}
    with door(name, tmp_path, *provided(provider), secret={"oidc-client-secret": "of-a-test"}) as here:
        for user, groups in MEMBERS.items():
            answer = through(here, user)
            if allowed & set(groups):
                assert [got(answer)[header] for header in IDENTITY] == [f"{user}@house.example", ",".join(groups)]
            else:
                assert (answer.status_code, PAGE in answer.content) == (403, False), user
        # local users do not exist beside a provider
        assert here.get(auth=("admin", PASSWORDS["admin"]), follow_redirects=False).status_code == 302
        assert here.sign_in("admin", PASSWORDS["admin"]).headers["Location"].startswith(provider)
