"""Drives the pages with headless Chromium, and records what they load and report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright

PROGRAMS = ("chromium", "google-chrome")  # of Debian; of the runners of GitHub
TIMEOUT = 120_000  # milliseconds, for a busy machine
IMPACTS = ("moderate", "serious", "critical")  # of the findings of axe that fail a test
_STATE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_UNFINISHED = "[data-stale=true], [data-testid=stSkeleton]"


@contextmanager
def running(*arguments: str) -> Iterator[Browser]:
    """Run a browser with further arguments. The tests are skipped on a machine without one."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *arguments]) as browser,
    ):
        yield browser


class Tab:
    """One tab with its own session. `others` has the addresses that it asked from other hosts than `site`."""

    def __init__(self, browser: Browser, site: str, **options: Any) -> None:
        self.site = site
        self.others: list[str] = []
        self.errors: list[str] = []  # of scripts in the page
        self.page: Page = browser.new_context(
            **{"locale": "en-US", "viewport": {"width": 1440, "height": 900}} | options
        ).new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.page.on("request", self._note)
        self.page.on("websocket", lambda socket: self._check(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def main(self) -> Locator:
        """The content beside the navigation."""
        return self.page.get_by_test_id("stMain")

    def _note(self, request: Request) -> None:
        self._check(request.url)

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.site).netloc:
            self.others.append(url)

    def open(self, path: str = "") -> None:
        """Open a page, and wait until its script has run."""
        self.page.goto(f"{self.site}/{path}")
        self.page.wait_for_selector("h1")
        self.settle()

    def settle(self) -> None:
        """Wait until the script has run and the page has drawn its charts and tables."""
        self.page.wait_for_selector(_STATE)
        self.page.wait_for_function(
            "document.querySelectorAll('[data-stale=true], [data-testid=stSkeleton]').length === 0"
        )
        for chart in self.page.get_by_test_id("stVegaLiteChart").all():
            chart.locator("canvas, svg").first.wait_for()

    def use(self, scheme: Literal["light", "dark"]) -> None:
        """Set the colours that the visitor prefers, and wait until the page has them."""
        self.page.emulate_media(color_scheme=scheme)
        shown = f"getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme === '{scheme}'"
        self.page.wait_for_function(shown)
        self.settle()

    def estimate(self) -> None:
        """Ask for the price of the listing in the form."""
        self.page.get_by_test_id("stFormSubmitButton").first.get_by_role("button").click()
        self.page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()  # the waterfall
        self.settle()

    def sheets(self) -> int:
        """Number of sheets of the printed page."""
        return len(re.findall(rb"/Type\s*/Page\b", self.page.pdf(prefer_css_page_size=True)))

    def exceptions(self) -> list[str]:
        """The exceptions that the page shows instead of an element."""
        return self.page.get_by_test_id("stException").all_inner_texts()

    def findings(self) -> list[str]:
        """Findings of axe on the page, with their elements."""
        violations = Axe().run(self.page).response["violations"]
        return [
            f"{violation['impact']}: {violation['help']} ({violation['id']}): {node['html'][:200]}"
            for violation in violations
            if violation["impact"] in IMPACTS
            for node in violation["nodes"]
        ]

    def hidden_width(self) -> int:
        """Pixels of the page to the right of the window, which only horizontal scrolling would show."""
        script = "one => one.scrollWidth - one.clientWidth"
        parts = ("html", '[data-testid="stMain"]')
        return max(int(self.page.eval_on_selector(part, script)) for part in parts)
