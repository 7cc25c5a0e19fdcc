"""With the bound reached, further requests are refused at once, and probes are not."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from predictor import in_flight
from predictor.in_flight import BURST_SECONDS, InFlight, Places, Queue


def refused() -> float:
    return REGISTRY.get_sample_value("house_requests_refused_total", {"reason": "overload"}) or 0


async def ask(app: InFlight, path: str = "/predict") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> Message:
        raise AssertionError("the body of a refused request is not read")

    async def send(message: Message) -> None:
        sent.append(dict(message))

    await app({"type": "http", "path": path, "method": "POST", "headers": []}, receive, send)
    return sent


def statuses(answers: list[list[dict[str, Any]]]) -> list[int]:
    return [answer[0]["status"] for answer in answers]


async def at_once(_: Scope, __: Receive, send: Send) -> None:
    """Answers without waiting for anything, as the route does for one listing."""
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(("limit", "accepted"), [(1, 1), (3, 3), (10, 10), (64, 10), (0, 10)])
def test_of_requests_that_come_together_as_many_as_the_bound_are_accepted(limit: int, accepted: int) -> None:
    async def run() -> None:
        app = InFlight(at_once, Places(limit))
        for _ in range(2):  # the first lot leaves nothing behind
            found = statuses(await asyncio.gather(*(ask(app) for _ in range(10))))
            assert found == [200] * accepted + [503] * (10 - accepted)

    before = refused()
    asyncio.run(run())
    assert refused() == before + 2 * (10 - accepted)


def test_refusal_says_when_to_come_again_and_probes_are_answered() -> None:
    async def run() -> None:
        going = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/predict":
                await going.wait()
            await at_once(scope, receive, send)

        app = InFlight(slow, Places(1))
        first = asyncio.create_task(ask(app))
        await asyncio.sleep(0)
        start, body = await ask(app)
        assert start["status"] == 503
        assert dict(start["headers"])[b"retry-after"] == b"1"
        assert json.loads(body["body"]) == {"detail": "more than 1 requests at once: try again in 1 s"}
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert statuses([await ask(app, path)]) == [200], path
        going.set()
        assert statuses([await first, await ask(app)]) == [200, 200]

    asyncio.run(run())


def test_request_that_fails_frees_its_place() -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        app = InFlight(broken, Places(1))
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await ask(app)
        assert app.places.count == 0

    asyncio.run(run())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds, as `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(in_flight, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def come(queue: Queue, number: int) -> int:
    """So many requests come together; returns how many are accepted, all of which are then served."""
    with ExitStack() as served:
        for _ in range(number):
            if not queue.full:
                served.enter_context(queue)
        return queue.count


def test_burst_takes_all_places_and_a_queue_that_lasts_a_quarter(clock: SimpleNamespace) -> None:
    queue = Queue(8)
    for _ in range(3):
        assert come(queue, 20) == 8, "a burst"
        clock.now += BURST_SECONDS / 3
    clock.now += BURST_SECONDS / 3
    for _ in range(100):
        assert come(queue, 20) == 2, "the overload goes on"
        assert come(queue, 2) == 2, "what the quarter takes is never refused"
        clock.now += BURST_SECONDS * 0.9
    clock.now += BURST_SECONDS
    assert come(queue, 20) == 8, "it was calm in between"
    assert queue.count == 0


def test_queue_of_no_limit_refuses_nobody_and_that_of_one_serves_one(clock: SimpleNamespace) -> None:
    for _ in range(10):
        assert [come(Queue(0), 1000), come(Queue(1), 1000)] == [1000, 1]
        clock.now += BURST_SECONDS / 2
