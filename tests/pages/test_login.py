"""A browser signs in at the platform's login, uses the web UI behind it, and signs out."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from ci.common.kube import PLATFORM, forward, secret
from ci.deploy.secrets import ROLES
from tests.kit.browser import TIMEOUT, Tab

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def login() -> Iterator[str]:
    """Address of the login of the web UI."""
    with forward(PLATFORM, "service/oauth2-proxy", 8501) as url:
        yield url


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    """The passwords of the local users."""
    values = secret(PLATFORM, "oauth2-proxy")
    return {role: values[f"{role.upper()}_PASSWORD"] for role in ROLES}


@pytest.fixture
def tab(browser: Browser, login: str) -> Iterator[Tab]:
    """A tab that has not signed in."""
    tab = Tab(browser, login)
    yield tab
    tab.page.context.close()


def sign_in(tab: Tab, user: str, password: str) -> None:
    """Fill in the form and send it."""
    tab.page.get_by_label("User").fill(user)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button").click()


def test_visitor_signs_in_uses_the_page_and_signs_out(tab: Tab, login: str, passwords: dict[str, str]) -> None:
    tab.page.goto(f"{login}/history")
    expect(tab.page).to_have_title("Sign in")
    assert not tab.findings()
    sign_in(tab, "viewer", "guessed")
    expect(tab.page.get_by_role("alert")).to_contain_text("Wrong user or password")
    tab.page.goto(f"{login}/history")
    sign_in(tab, "viewer", passwords["viewer"])
    expect(tab.page.get_by_test_id("stSidebar")).to_contain_text("Signed in as viewer", timeout=TIMEOUT)
    expect(tab.page.get_by_role("heading", name="History")).to_be_visible(timeout=TIMEOUT)  # came over the WebSocket
    assert tab.page.url.startswith(f"{login}/history")
    tab.page.get_by_role("link", name="Sign out").click()
    expect(tab.page).to_have_title("Sign in")
    tab.page.goto(f"{login}/history")
    expect(tab.page).to_have_title("Sign in")
    assert not tab.others
    assert not tab.errors


def test_role_decides_which_page_opens_and_who_may_change_it(login: str, passwords: dict[str, str]) -> None:
    people: dict[str, tuple[str, str] | None] = {"anonymous": None, **{role: (role, passwords[role]) for role in ROLES}}
    with (
        forward(PLATFORM, "service/oauth2-proxy", 9090) as metrics,
        forward(PLATFORM, "service/oauth2-proxy", 5000) as models,
        forward(PLATFORM, "service/oauth2-proxy", 8080) as runs,
    ):
        tag = {"name": "house-price", "key": "note", "value": "of a test"}
        alias = "registered-models/alias?name=house-price&alias=champion"
        requests: dict[str, tuple[str, str, object]] = {
            "web UI": ("GET", f"{login}/_stcore/health", None),
            "metrics": ("GET", f"{metrics}/api/v1/query?query=up", None),
            "models": ("GET", f"{models}/api/2.0/mlflow/{alias}", None),
            "change of a model": ("POST", f"{models}/api/2.0/mlflow/registered-models/set-tag", tag),
            "runs": ("GET", f"{runs}/api/v2/dags/house_price_pipeline/dagRuns?limit=1", None),
            "start of a run": ("POST", f"{runs}/api/v2/dags/no_such_dag/dagRuns", {"logical_date": None}),
            "connections": ("GET", f"{runs}/api/v2/connections", None),
        }
        answers = {
            what: {
                who: httpx.request(method, url, auth=auth, timeout=20, json=body).status_code
                for who, auth in people.items()
            }
            for what, (method, url, body) in requests.items()
        }
    assert answers == {
        "web UI": {"anonymous": 403, "viewer": 200, "operator": 200, "admin": 200},
        "metrics": {"anonymous": 403, "viewer": 403, "operator": 200, "admin": 200},
        "models": {"anonymous": 403, "viewer": 200, "operator": 200, "admin": 200},
        "change of a model": {"anonymous": 403, "viewer": 403, "operator": 403, "admin": 200},
        "runs": {"anonymous": 403, "viewer": 200, "operator": 200, "admin": 200},
        "start of a run": {"anonymous": 403, "viewer": 403, "operator": 404, "admin": 404},  # there is no such DAG
        "connections": {"anonymous": 403, "viewer": 403, "operator": 403, "admin": 200},
    }
