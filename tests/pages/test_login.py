"""A browser signs in at the platform's login, uses the web UI behind it, and signs out."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from ci.common.kube import PLATFORM, forward, secret
from ci.deploy.secrets import ROLES

from .browser import TIMEOUT, Tab

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


def test_role_decides_which_page_opens(login: str, passwords: dict[str, str]) -> None:
    with forward(PLATFORM, "service/oauth2-proxy", 9090) as metrics:
        pages = {"web UI": f"{login}/_stcore/health", "Prometheus": f"{metrics}/api/v1/query?query=up"}
        people: dict[str, tuple[str, str] | None] = {
            "anonymous": None,
            **{role: (role, passwords[role]) for role in ROLES},
        }
        answers = {
            (page, who): httpx.get(url, auth=auth, timeout=20).status_code
            for page, url in pages.items()
            for who, auth in people.items()
        }
    assert answers == {
        **{("web UI", who): 403 if who == "anonymous" else 200 for who in people},
        **{("Prometheus", who): 200 if who in ("operator", "admin") else 403 for who in people},
    }
