"""`GET /history` reads the ledger once for many requests, so that no crowd of readers exhausts its connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from fastapi.testclient import TestClient

import predictor.assembly
from ci.local.processes import LocalPlatform
from core.errors import LedgerAwayError
from predictor.assembly import create_app
from predictor.http import application, shared_answer
from predictor.http.shared_answer import SharedAnswer
from tests.services.ledgers import new_ledger

from .conftest import SETTINGS, Registry, until

REQUESTS = 100
OF_ONE_READ = 5  # the ledger opens one connection per view, one after another
OF_METRICS = OF_ONE_READ + 1  # `LedgerMetrics` reads the same and the backups, once at the start


@pytest.fixture
def dsn(local: LocalPlatform) -> str:
    return new_ledger(local, "history_crowd")


@pytest.fixture
def client(dsn: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    # this test may be slow, and what it counts must not depend on it: each is read once
    monkeypatch.setattr(application, "HISTORY_SECONDS", 300)
    monkeypatch.setattr(predictor.assembly, "LEDGER_METRICS_SECONDS", 300)
    settings = SETTINGS.model_copy(update={"ledger_dsn": dsn, "bundle_dir": tmp_path / "bundles"})
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.services
def test_hundred_requests_at_once_open_few_connections(client: TestClient, dsn: str, local: LocalPlatform) -> None:
    database = dsn.rpartition("/")[2].partition("?")[0]
    most, stopped = 0, threading.Event()
    with psycopg.connect(local.database("postgres"), autocommit=True) as observer:

        def count(what: str) -> int:
            row = observer.execute(what, [database]).fetchone()
            assert row
            return int(row[0])

        def watch() -> None:
            nonlocal most
            while not stopped.wait(0.005):
                most = max(most, count("select count(*) from pg_stat_activity where datname = %s"))

        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(REQUESTS) as crowd:
            statuses = list(crowd.map(lambda _: client.get("/history").status_code, range(REQUESTS)))
        stopped.set()
        watching.join()
        assert statuses == [200] * REQUESTS
        assert 1 <= most <= 2, f"{most} connections at the same time: one for the requests, one for the metrics"
        opened = "select sessions from pg_stat_database where datname = %s"  # since its creation; updated with a delay
        until(lambda: count(opened) >= OF_ONE_READ)
        assert count(opened) <= OF_ONE_READ + OF_METRICS + 1, "one more for the creation of the database"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(shared_answer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_answer_is_made_once_at_a_time_and_again_when_it_is_old(clock: SimpleNamespace) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(len(made))
        return b"%d" % len(made)

    async def ask() -> None:
        answer = SharedAnswer(make, 2)
        assert set(await asyncio.gather(*(answer.get() for _ in range(50)))) == {b"1"}
        clock.now += 1.9
        assert await answer.get() == b"1"
        clock.now += 0.2
        assert set(await asyncio.gather(*(answer.get() for _ in range(50)))) == {b"2"}

    asyncio.run(ask())
    assert len(made) == 2


def test_failure_reaches_all_that_waited_and_is_not_kept(clock: SimpleNamespace) -> None:
    calls = 0

    def make() -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise LedgerAwayError("the database is away")
        return b"history"

    async def ask() -> None:
        answer = SharedAnswer(make, 2)
        failures = await asyncio.gather(*(answer.get() for _ in range(5)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [LedgerAwayError] * 5
        assert await answer.get() == b"history"

    asyncio.run(ask())
    assert calls == 2


def test_request_that_is_cancelled_does_not_end_the_read_of_the_others() -> None:
    started, go_on = threading.Event(), threading.Event()

    def make() -> bytes:
        started.set()
        assert go_on.wait(20)
        return b"history"

    async def ask() -> None:
        answer = SharedAnswer(make, 2)
        first, second = (asyncio.create_task(answer.get()) for _ in range(2))
        await asyncio.to_thread(started.wait, 20)
        first.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert await second == b"history"

    asyncio.run(ask())
