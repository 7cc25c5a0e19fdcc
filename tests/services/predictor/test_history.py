"""`GET /history` reads the ledger once for many requests, so that no crowd of readers exhausts its connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

import predictor.assembly
from ci.local.processes import LocalPlatform
from core.errors import LedgerAwayError
from core.ledger.connection import Database
from predictor.assembly import create_app
from predictor.http import application, shared_answer
from predictor.http.shared_answer import SharedAnswer
from tests.services.ledgers import new_ledger

from .conftest import SETTINGS, Registry

REQUESTS = 100
OF_ONE_READ = 5  # the ledger opens one connection per view, one after another
IN_BACKGROUND = {"ledger-metrics", "retention"}  # threads that read the ledger at their own times


@pytest.fixture
def dsn(local: LocalPlatform) -> str:
    return new_ledger(local, "history_crowd")


@pytest.fixture
def client(dsn: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(application, "HISTORY_SECONDS", 300)  # a slow machine reads once, too
    changes = {"ledger_dsn": dsn, "bundle_dir": tmp_path / "bundles", "max_in_flight": 0}  # no load shedding
    settings = SETTINGS.model_copy(update=changes)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def opened(dsn: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry per connection that a request opens to the migrated ledger: how many of them are open at that moment."""
    connections: list[psycopg.Connection[Any]] = []
    at_once: list[int] = []
    open_connection = Database._open

    def counting(database: Database, **options: Any) -> psycopg.Connection[Any]:
        connection = open_connection(database, **options)
        if threading.current_thread().name not in IN_BACKGROUND:
            connections.append(connection)
            at_once.append(sum(not each.closed for each in connections))
        return connection

    monkeypatch.setattr(Database, "_open", counting)
    return at_once


@pytest.mark.services
def test_hundred_requests_at_once_open_the_connections_of_one_read(opened: list[int], client: TestClient) -> None:
    with ThreadPoolExecutor(REQUESTS) as crowd:
        statuses = list(crowd.map(lambda _: client.get("/history").status_code, range(REQUESTS)))
    assert statuses == [200] * REQUESTS
    assert opened == [1] * OF_ONE_READ, "one read, one connection after another"


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
