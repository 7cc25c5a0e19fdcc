"""When all slots are taken, further requests are refused at once. Probes are always answered."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from predictor.http import load_shedding
from predictor.http.load_shedding import BURST_SECONDS, BurstSlots, LoadShedding, Slots


def refused() -> float:
    return REGISTRY.get_sample_value("house_requests_refused_total", {"reason": "overload"}) or 0


async def ask(app: LoadShedding, path: str = "/predict") -> list[dict[str, Any]]:
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
    """Answers without yielding to the event loop, as the route does for one listing."""
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(("limit", "accepted"), [(1, 1), (3, 3), (10, 10), (64, 10), (0, 10)])
def test_simultaneous_requests_are_accepted_up_to_the_limit(limit: int, accepted: int) -> None:
    async def run() -> None:
        app = LoadShedding(at_once, Slots(limit))
        for _ in range(2):  # the first round must free all slots
            answers = await asyncio.gather(*(ask(app) for _ in range(10)))
            assert statuses(answers) == [200] * accepted + [503] * (10 - accepted)

    before = refused()
    asyncio.run(run())
    assert refused() == before + 2 * (10 - accepted)


def test_refusal_has_retry_after_and_probes_are_answered() -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/predict":
                await release.wait()
            await at_once(scope, receive, send)

        app = LoadShedding(slow, Slots(1))
        first = asyncio.create_task(ask(app))
        await asyncio.sleep(0)
        start, body = await ask(app)
        assert start["status"] == 503
        assert dict(start["headers"])[b"retry-after"] == b"1"
        assert json.loads(body["body"]) == {
            "detail": "the service already has 1 requests in flight, its limit: retry after 1 s"
        }
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert statuses([await ask(app, path)]) == [200], path
        release.set()
        assert statuses([await first, await ask(app)]) == [200, 200]

    asyncio.run(run())


def test_failed_request_frees_its_slot() -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        app = LoadShedding(broken, Slots(1))
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await ask(app)
        assert app.slots.count == 0

    asyncio.run(run())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test moves by setting `now`, in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(load_shedding, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def accepted(slots: BurstSlots, number: int) -> int:
    """How many of `number` simultaneous requests are accepted. All of them are served before this returns."""
    with ExitStack() as in_flight:
        for _ in range(number):
            if not slots.full:
                in_flight.enter_context(slots)
        return slots.count


def test_burst_takes_all_slots_and_sustained_overload_a_quarter(clock: SimpleNamespace) -> None:
    slots = BurstSlots(8)
    for _ in range(3):
        assert accepted(slots, 20) == 8, "a burst"
        clock.now += BURST_SECONDS / 3
    clock.now += BURST_SECONDS / 3
    for _ in range(100):
        assert accepted(slots, 20) == 2, "sustained overload"
        assert accepted(slots, 2) == 2, "a quarter of the slots stays available"
        clock.now += BURST_SECONDS * 0.9
    clock.now += BURST_SECONDS
    assert accepted(slots, 20) == 8, "the overload had ended, so this is a new burst"
    assert slots.count == 0


def test_no_limit_refuses_nothing_and_a_limit_of_one_accepts_one(clock: SimpleNamespace) -> None:
    for _ in range(10):
        assert [accepted(BurstSlots(0), 1000), accepted(BurstSlots(1), 1000)] == [1000, 1]
        clock.now += BURST_SECONDS / 2
