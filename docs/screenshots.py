"""Takes the pictures of the pages that the documentation shows, with headless Chromium.

The browser is the one of the system (Debian: `apt-get install chromium`):

    make demo                                              # prints the address of the page
    .venv/bin/python docs/screenshots.py --ui http://127.0.0.1:40001

Pages of a cluster, by the tunnels that `make pages` prints; it also names the Secrets with the passwords:

    AIRFLOW_PASSWORD=... MLFLOW_PASSWORD=... .venv/bin/python docs/screenshots.py --ui http://localhost:8501 \\
      --airflow http://localhost:8080 --mlflow http://localhost:5000

Only pages whose address is given are taken. A picture is 1280 pixels wide and must have less than 150 kB.

With `--gallery build/pages`, every page of the Streamlit application is taken in both languages, in both colour
schemes, and 1440 and 390 pixels wide. These pictures are for a look at all of them; the documentation has none of them.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import sys
import urllib.request
from itertools import product
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

WIDTH, MAX_BYTES = 1280, 150_000
MODEL, DAG = "house-price", "house_price_pipeline"
FOLDER = Path(__file__).parent / "images"
PAGES = ("", "files", "history", "model", "operations")
LOCALES = {"en": "en-US", "es": "es-ES"}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1440, 390)
HOUSE = {"state": "Massachusetts", "city": "Agawam", "zip_code": "1001", "bed": 3, "bath": 2, "house_size": 1500}


def open_ui(page: Page, url: str) -> None:
    """Open a page of the Streamlit application and wait until its script has run."""
    page.goto(url)
    page.wait_for_selector("h1")
    wait_for_script(page)


def wait_for_script(page: Page) -> None:
    """Wait until Streamlit has drawn everything."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_timeout(1500)  # charts and tables are drawn after the script


def take(page: Page, name: str, height: int) -> Path:
    """Take a picture of the upper part of a page.

    Raises:
        SystemExit: the file is too large.
    """
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(500)
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    if size >= MAX_BYTES:
        sys.exit(f"{path} has {size:,} bytes, at most {MAX_BYTES:,} are allowed: reduce its height")
    print(f"{path}: {size:,} bytes")
    return path


def ui(page: Page, url: str) -> None:
    """The pages of the Streamlit application: a price with its explanation, files, history, model, operations."""
    open_ui(page, f"{url}?{urlencode(HOUSE)}")  # the address fills in the form
    page.get_by_test_id("stFormSubmitButton").first.get_by_role("button").click()
    page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    wait_for_script(page)
    take(page, "price", 1750)
    open_ui(page, f"{url}/files")
    take(page, "files", 800)
    open_ui(page, f"{url}/history")
    take(page, "history", 1000)
    open_ui(page, f"{url}/model")
    take(page, "model", 1150)
    if page.get_by_role("link", name="Operations").count():  # a platform without a cluster has no Prometheus
        open_ui(page, f"{url}/operations")
        take(page, "operations", 1000)


def gallery(browser: Browser, url: str, folder: Path) -> None:
    """Whole pages of the Streamlit application in every language, colour scheme and width."""
    folder.mkdir(parents=True, exist_ok=True)
    for (language, locale), scheme, width in product(LOCALES.items(), SCHEMES, WIDTHS):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=locale, color_scheme=scheme, timezone_id="UTC"
        )
        page = context.new_page()
        page.set_default_timeout(120_000)
        for name in PAGES:
            open_ui(page, f"{url}/{name}")
            if not name:
                page.get_by_test_id("stFormSubmitButton").first.get_by_role("button").click()
                page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
                wait_for_script(page)
            # the page scrolls inside of the window, so a picture of all of it needs a window of its height
            height = page.get_by_test_id("stMain").evaluate("one => one.scrollHeight")
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name or 'price'}-{language}-{scheme}-{width}.png")
            page.set_viewport_size({"width": width, "height": 900})
        context.close()


def airflow(page: Page, url: str, user: str, password: str) -> None:
    """The pipeline with its graph. Logs in by the API and passes the token as Airflow's cookie."""
    login = json.dumps({"username": user, "password": password}).encode()
    request = urllib.request.Request(  # noqa: S310  # an address of the command line
        f"{url}/auth/token", login, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # as above
        token = json.load(answer)["access_token"]
    page.context.add_cookies([{"name": "_token", "value": token, "url": url}])
    page.add_init_script("localStorage.setItem('default_dag_view', JSON.stringify('graph'))")  # else a grid of runs
    page.goto(f"{url}/dags/{DAG}")
    page.get_by_text(DAG).first.wait_for()
    page.wait_for_timeout(5000)  # the graph moves while it is laid out
    take(page, "airflow", 900)


def mlflow(page: Page, url: str, password: str) -> None:
    """The versions of the registered model, with their aliases, as `viewer`. MLflow of `make demo` needs no login."""
    login = base64.b64encode(f"viewer:{password}".encode()).decode()
    page.set_extra_http_headers({"Authorization": f"Basic {login}"})
    page.goto(f"{url}/#/models/{MODEL}")
    page.get_by_text("Version 1", exact=True).first.wait_for()
    page.wait_for_timeout(2000)
    assistant = page.get_by_role("button", name="Close")
    if assistant.count():
        assistant.first.click()
    take(page, "mlflow", 800)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ui", help="address of the Streamlit application")
    parser.add_argument("--gallery", type=Path, metavar="FOLDER", help="take all forms of these pages into a folder")
    parser.add_argument("--airflow", help="address of Airflow; its password is read from AIRFLOW_PASSWORD")
    parser.add_argument("--airflow-user", default="admin", help="default: %(default)s")
    parser.add_argument("--mlflow", help="address of MLflow; its password is read from MLFLOW_PASSWORD")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="program of the browser")
    options = parser.parse_args()
    if not options.chromium:
        parser.error("chromium is not on PATH: install it, or name it with --chromium")
    FOLDER.mkdir(exist_ok=True)
    launch: dict[str, Any] = {"executable_path": options.chromium, "args": ["--no-sandbox"]}
    with sync_playwright() as playwright, playwright.chromium.launch(**launch) as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, locale="en-US", timezone_id="UTC")
        page.set_default_timeout(120_000)
        if options.ui and options.gallery:
            gallery(browser, options.ui.rstrip("/"), options.gallery)
        elif options.ui:
            ui(page, options.ui.rstrip("/"))
        if options.airflow:
            airflow(page, options.airflow.rstrip("/"), options.airflow_user, os.environ["AIRFLOW_PASSWORD"])
        if options.mlflow:
            mlflow(page, options.mlflow.rstrip("/"), os.environ.get("MLFLOW_PASSWORD", ""))


if __name__ == "__main__":
    _main()
