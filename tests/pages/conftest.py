"""The pages at an address, and a browser. The address belongs to processes on this machine, or to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from ci.common.kube import PLATFORM, forward, kube
from ci.local.processes import LocalPlatform
from tests.kit import browser as browsers
from tests.kit.browser import Tab

from . import platform

Visit = Callable[..., Tab]
Lose = Callable[[], None]


@pytest.fixture(
    scope="module",
    params=[pytest.param("local", marks=pytest.mark.services), pytest.param("cluster", marks=pytest.mark.e2e)],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the pages."""
    if request.param == "cluster":
        with forward(PLATFORM, "service/streamlit", 8501) as url:
            yield url
    else:
        local: LocalPlatform = request.getfixturevalue("local")
        with platform.serving(local, tmp_path_factory.mktemp("pages")) as url:
            yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module. A longer life would leave the event loop of Playwright to the tests of other files."""
    with browsers.running() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """Opens the page *Price*, or another one, in a tab of its own."""
    tabs: list[Tab] = []

    def visit(path: str = "", **options: Any) -> Tab:
        tabs.append(Tab(browser, site, **options))
        tabs[-1].open(path)
        return tabs[-1]

    yield visit
    for tab in tabs:
        tab.page.context.close()


@pytest.fixture
def lose_predictor(site: str, request: pytest.FixtureRequest) -> Lose:
    """Kills all predictors at once, on this machine all worker processes. Others take their places."""
    if request.node.callspec.params["site"] == "cluster":
        return lambda: kube(
            *("-n", PLATFORM, "delete", "pods", "-l", "app.kubernetes.io/name=fastapi", "--grace-period=0", "--force")
        )
    local: LocalPlatform = request.getfixturevalue("local")
    return lambda: platform.kill_workers(local.pid("predictor"))
