"""The prediction log of a real process, while its database stops and starts, and at shutdown."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from predictor.pricing.listing import EXAMPLE
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

from .conftest import keep_on_disk, worker_of

pytestmark = pytest.mark.services

SLOW_SECONDS = 1.0  # for one answer, on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: tuple[Model, Model]) -> Iterator[LocalPlatform]:
    """A PostgreSQL for this module, because its tests stop it, and a model on disk, so that MLflow is not needed."""
    with LocalPlatform(tmp_path_factory.mktemp("log")) as local:
        keep_on_disk(local, models[0])
        new_ledger(local, "ledger")
        yield local


@pytest.fixture
def platform(server: LocalPlatform) -> Iterator[LocalPlatform]:
    """The same server with an empty log."""
    yield server
    server.stop("predictor")
    server.start_postgres()
    shutil.rmtree(server.folder / "predictions", ignore_errors=True)
    with psycopg.connect(server.database("ledger")) as connection:
        connection.execute("truncate ledger.predictions, ledger.prediction_batches cascade")


@pytest.fixture
def url(platform: LocalPlatform) -> str:
    return start(platform)


def start(platform: LocalPlatform, **settings: str) -> str:
    url = platform.start_predictor(poll_seconds="3600", **settings)
    wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 20)
    return url


class Clients:
    """Three clients that send one request after another until the block ends."""

    def __init__(self, url: str) -> None:
        self.answered: list[str] = []  # request ids
        self.slowest = 0.0
        self.failures: list[str] = []
        self._url = url
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stopped.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(f"{self._url}/predict", json=EXAMPLE)
                except httpx.TransportError as lost:
                    self.failures.append(repr(lost))
                    return
                if answer.status_code == 200:
                    self.answered.append(answer.json()["request_id"])
                else:
                    self.failures.append(answer.text)
                self.slowest = max(self.slowest, time.monotonic() - began)
                time.sleep(0.01)

    def more(self, count: int) -> Callable[[], bool]:
        """Returns a condition: `count` more requests were answered than now."""
        goal = len(self.answered) + count
        return lambda: len(self.answered) >= goal


def logged(platform: LocalPlatform) -> Counter[str]:
    """Number of rows of each request id."""
    with psycopg.connect(platform.database("ledger")) as connection:
        return Counter(str(row[0]) for row in connection.execute("select request_id from ledger.predictions"))


def waiting(platform: LocalPlatform) -> list[Path]:
    return sorted((platform.folder / "predictions").glob("*.jsonl"))


def ask(url: str, count: int) -> list[str]:
    with httpx.Client(timeout=10) as client:
        return [client.post(f"{url}/predict", json=EXAMPLE).json()["request_id"] for _ in range(count)]


def test_database_stops_and_starts_under_load(platform: LocalPlatform, url: str) -> None:
    with Clients(url) as clients:
        for _ in range(2):
            wait_for("answers", clients.more(100), 20)
            platform.stop_postgres()
            wait_for("answers without a database", clients.more(100), 20)
            wait_for("rows on disk", lambda: bool(waiting(platform)), 20)
            wait_for("more answers", clients.more(100), 20)
            platform.start_postgres()
            wait_for("the rows on disk in the database", lambda: not waiting(platform), 30)
    assert clients.failures == []
    assert clients.slowest < SLOW_SECONDS
    wait_for("the last rows", lambda: len(logged(platform)) >= len(clients.answered), 10)
    assert logged(platform) == Counter(clients.answered), "no row is lost or stored twice"


@pytest.mark.parametrize(("workers", "database"), [(1, "there"), (1, "away"), (2, "away")])
def test_sigterm_loses_no_row(platform: LocalPlatform, workers: int, database: str) -> None:
    url = start(platform, gunicorn_cmd_args=f"--workers {workers}")
    probes = 10 * workers  # each is a new connection, which any worker may take
    wait_for(
        "a model in each worker",
        lambda: {httpx.get(f"{url}/health/ready").status_code for _ in range(probes)} == {200},
        20,
    )
    if database == "away":
        platform.stop_postgres()
    with Clients(url) as clients:
        wait_for("answers", clients.more(200), 20)
        platform.stop("predictor")  # it answers and logs every request that it accepts
    assert all("Error" in failure for failure in clients.failures), clients.failures
    if database == "away":
        assert waiting(platform)
        platform.start_postgres()
        start(platform)
        wait_for("the rows on disk in the database", lambda: not waiting(platform), 30)
    assert waiting(platform) == []
    assert logged(platform) == Counter(clients.answered)


def test_rows_on_disk_are_stored_once_after_a_kill(platform: LocalPlatform, url: str) -> None:
    before = ask(url, 20)
    wait_for("the first rows", lambda: len(logged(platform)) == 20, 20)
    platform.stop_postgres()
    kept = ask(url, 50)
    wait_for("all rows on disk", lambda: sum(len(p.read_bytes().splitlines()) for p in waiting(platform)) == 50, 20)
    worker = worker_of(platform)
    os.kill(worker, signal.SIGKILL)
    wait_for("a new worker", lambda: worker_of(platform) != worker and ready(url), 20)
    platform.start_postgres()
    wait_for("the rows on disk in the database", lambda: not waiting(platform), 30)
    after = ask(url, 5)
    wait_for("the last rows", lambda: len(logged(platform)) >= 75, 20)
    assert logged(platform) == Counter([*before, *kept, *after])


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
