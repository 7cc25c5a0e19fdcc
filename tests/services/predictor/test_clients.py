"""The client examples in docs/clients, against a real process of the service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ci.common.console import wait_for
from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform
from tests.services.ledgers import new_ledger

from .conftest import NOWHERE, Model, keep_on_disk

FOLDER = CHECKOUT / "docs" / "clients"
PAGE = CHECKOUT / "docs" / "how-to" / "call-the-api.md"
PROGRAMS = {".py": (sys.executable,), ".sh": ("bash", "curl"), ".mjs": ("node",)}  # the first one runs the file
CLIENTS = sorted(path.name for path in FOLDER.iterdir() if path.suffix in PROGRAMS)
LISTINGS = [
    {"city": "Agawam", "state": "Massachusetts", "zip_code": "01001", "bed": 3, "bath": 2, "house_size": 1276},
    {"city": "Boston", "state": "Massachusetts", "bed": 2},
]
RULE = "Input should be a valid number"


@dataclass(frozen=True)
class Server:
    """A predictor with a model, and its own PostgreSQL."""

    platform: LocalPlatform
    url: str

    def true_prices(self) -> list[tuple[str, float]]:
        """Request ids and true prices in the ledger."""
        with psycopg.connect(self.platform.database("ledger")) as connection:
            return connection.execute("select request_id, price from ledger.feedback").fetchall()

    def count(self, route: str, status: str) -> float:
        """Requests of a route that were answered with this class of status."""
        name = rf'http_requests_total{{handler="{route}",method="POST",status="{status}"}} (.+)'
        matches = re.search(name, httpx.get(f"{self.url}/metrics", timeout=5).text)
        return float(matches[1]) if matches else 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: tuple[Model, Model]) -> Iterator[Server]:
    with LocalPlatform(tmp_path_factory.mktemp("clients")) as local:
        keep_on_disk(local, models[0])
        new_ledger(local, "ledger")
        url = local.start_predictor(poll_seconds="3600", require_api_key="true", api_keys="a-key")
        wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 20)
        yield Server(local, url)


@pytest.fixture
def empty(server: Server) -> Iterator[Server]:
    """The same server without feedback."""
    with psycopg.connect(server.platform.database("ledger")) as connection:
        connection.execute("truncate ledger.feedback")
    yield server
    server.platform.start_postgres()


def start(client: str, url: str) -> subprocess.Popen[str]:
    """Start a client. A missing program is a failure, not a skip: nobody would notice a client that does not work."""
    programs = PROGRAMS[Path(client).suffix]
    missing = [program for program in programs if not shutil.which(program)]
    assert not missing, f"install {', '.join(missing)}: docs/clients/{client} needs it"
    env = {**os.environ, "PREDICTOR_URL": url, "API_KEY": "a-key", "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [programs[0], str(FOLDER / client)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def prices(url: str) -> dict[str, Any]:
    headers = {"Authorization": "Bearer a-key"}
    answer = httpx.post(f"{url}/predict", json=LISTINGS, headers=headers, timeout=10).raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def check_output(client: str, output: str, url: str) -> None:
    """Compare what a client printed with the answers of the service."""
    expected = prices(url)
    lines = output.splitlines()
    rows = list(zip(expected["prices"], expected["low"], expected["high"], strict=True))
    if client.endswith(".sh"):
        names = ("price", "low", "high")
        assert all(f'"{name}":{value}' in lines[0] for name, value in zip(names, rows[0], strict=True)), output
        assert all(f'"{name}":{expected[name]}'.replace(" ", "") in lines[1] for name in ("prices", "low", "high"))
        assert RULE in lines[2]
        assert (lines[3], len(lines)) == ("invalid", 5), output
        assert '"price":251000.0' in lines[4]
        return
    texts = [f"{price:.2f}, 80 % interval {low:.2f} to {high:.2f}" for price, low, high in rows]
    assert lines == [
        f"one listing: {texts[0]}",
        *(f"in a list: {text}" for text in texts),
        f"invalid: body.bed: {RULE}",
        "true price stored: 251000.00",
    ], output


@pytest.mark.services
@pytest.mark.parametrize("client", CLIENTS)
def test_client_gets_prices_and_sends_feedback(client: str, empty: Server) -> None:
    output, errors = (process := start(client, empty.url)).communicate(timeout=120)
    assert process.returncode == 0, errors + output
    check_output(client, output, empty.url)
    assert [price for _, price in empty.true_prices()] == [251_000]


@pytest.mark.services
@pytest.mark.parametrize("client", CLIENTS)
def test_client_waits_and_repeats_after_503(client: str, empty: Server) -> None:
    before = empty.count("/feedback", "5xx")
    empty.platform.stop_postgres()
    process = start(client, empty.url)
    wait_for("a 503", lambda: empty.count("/feedback", "5xx") > before or process.poll() is not None, 60)
    assert process.poll() is None, process.communicate()
    empty.platform.start_postgres()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors + output
    check_output(client, output, empty.url)
    assert [price for _, price in empty.true_prices()] == [251_000]


@pytest.mark.services
def test_every_client_gives_up_after_some_attempts(tmp_path: Path, server: Server) -> None:
    with LocalPlatform(tmp_path / "empty") as local:
        url = local.start_predictor(
            mlflow_tracking_uri=NOWHERE,
            ledger_dsn=server.platform.database("ledger"),
            prediction_log="false",
        )
        processes = {client: start(client, url) for client in CLIENTS}
        for client, process in processes.items():
            output, errors = process.communicate(timeout=120)
            assert process.returncode != 0, client
            assert "cannot read the champion" in output + errors, f"{client} does not show the cause:\n{output}{errors}"
            assert "Traceback" not in errors, errors


def test_page_shows_each_client_as_it_is() -> None:
    page = PAGE.read_text()
    blocks = re.findall(r"^```(?:python|js|sh)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    sources = {client: (FOLDER / client).read_text() for client in CLIENTS}
    shown = {client for client, source in sources.items() for block in blocks if block in source}
    strange = [block for block in blocks if not any(block in source for source in sources.values())]
    assert not strange, f"{PAGE.name} shows code that no file in docs/clients contains:\n{strange[0]}"
    assert shown == set(CLIENTS)
    missing = [client for client in CLIENTS if f"../clients/{client}" not in page]
    assert not missing, f"link these files from {PAGE.name}"
