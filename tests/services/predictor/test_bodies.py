"""Bodies are received within limits: time, and bytes of all bodies in memory. Slow senders take nothing from others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from predictor.errors import TooLargeError
from predictor.http.bodies import BodyBudget, ReceiveBodies, read_body
from predictor.http.load_shedding import BurstSlots, Slots
from predictor.http.one_listing import OneListing
from predictor.pricing.listing import UNCOUNTED_BYTES, VALUES_PER_LISTING, ListingParser

LIMIT, MAX_BYTES, SECONDS = 100, 40, 0.2
Parts = AsyncIterator[bytes]


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("house_requests_refused_total", {"reason": reason}) or 0


class Service:
    """The middleware before a route that needs some time for each body."""

    def __init__(self, slots: int = 0) -> None:
        self.budget = BodyBudget(LIMIT)
        self.most = 0
        self.bodies: list[bytes] = []
        self.layer = ReceiveBodies(self.route, Slots(slots), self.budget, MAX_BYTES, SECONDS)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.bodies.append(await read_body(Request(scope, receive), MAX_BYTES))
            status = 200
        except TooLargeError:
            status = 413
        await asyncio.sleep(0.01)
        self.most = max(self.most, self.budget.used)
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def ask(self, parts: Parts, length: int | None = None) -> dict[str, Any]:
        """The answer: `status`, `headers`, and `detail` of a refusal."""
        headers = [] if length is None else [(b"content-length", b"%d" % length)]
        pending: list[bytes | None] = []
        answer: dict[str, Any] = {}

        async def receive() -> Message:
            if not pending:
                pending.append(await anext(parts, None))
            part = pending.pop()
            self.most = max(self.most, self.budget.used)
            if part is None:
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": part, "more_body": True}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.update(status=message["status"], headers=dict(message["headers"]))
            elif message["body"]:
                answer["detail"] = json.loads(message["body"])["detail"]

        scope: Scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        await self.layer(scope, receive, send)
        return answer


async def parts(*sent: bytes, pause: float = 0) -> Parts:
    for part in sent:
        await asyncio.sleep(pause)
        yield part


async def drip() -> Parts:
    while True:
        await asyncio.sleep(SECONDS / 10)
        yield b" "


def test_body_reaches_the_route_unchanged() -> None:
    service = Service()
    assert asyncio.run(service.ask(parts(b"ab", b"", b"cd"), 4))["status"] == 200
    assert service.bodies == [b"abcd"]
    assert service.budget.used == 0


@pytest.mark.parametrize("sender", [drip, lambda: parts(b"", pause=60)], ids=["drips", "sends nothing"])
def test_slow_body_gets_408_and_its_connection_is_closed(sender: Callable[[], Parts]) -> None:
    service, before = Service(), refused("slow_body")
    answer = asyncio.run(service.ask(sender(), 40))
    assert answer["status"] == 408
    assert answer["headers"][b"connection"] == b"close"
    assert int(answer["headers"][b"retry-after"]) > 0
    assert answer["detail"] == (
        "the body did not arrive within 0.2 s: send it faster, or send fewer listings in one request"
    )
    assert (service.bodies, service.budget.used, refused("slow_body")) == ([], 0, before + 1)


def test_slow_senders_take_neither_slots_nor_room_for_bodies() -> None:
    async def run() -> None:
        service = Service(slots=1)
        slow = [asyncio.create_task(service.ask(drip(), MAX_BYTES)) for _ in range(LIMIT // 10)]
        await asyncio.sleep(SECONDS / 2)
        assert service.layer._slots.count == 0
        assert (await service.ask(parts(b"x" * MAX_BYTES), MAX_BYTES))["status"] == 200
        assert {answer["status"] for answer in await asyncio.gather(*slow)} == {408}
        assert service.budget.used == 0

    asyncio.run(run())


def test_declared_body_that_does_not_fit_is_refused_before_it_is_read() -> None:
    async def unread() -> Parts:
        raise AssertionError("the body of a refused request is not read")
        yield b""

    service, before = Service(), refused("overload")
    service.budget.used = LIMIT - 30
    answer = asyncio.run(service.ask(unread(), 31))
    assert (answer["status"], service.budget.used) == (503, LIMIT - 30)
    assert int(answer["headers"][b"retry-after"]) > 0
    assert answer["detail"].startswith("the bodies of all requests in flight reach 100 bytes")
    assert asyncio.run(service.ask(parts(b"x" * 30), 30))["status"] == 200
    assert refused("overload") == before + 1


@pytest.mark.parametrize("length", [MAX_BYTES, None], ids=["with its length", "in chunks"])
def test_many_bodies_at_once_stay_within_the_budget_and_some_are_answered(length: int | None) -> None:
    async def run() -> None:
        service = Service()
        crowd = (service.ask(parts(*[b"x"] * MAX_BYTES, pause=0.001), length) for _ in range(64))
        statuses = [answer["status"] for answer in await asyncio.gather(*crowd)]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= LIMIT // MAX_BYTES
        assert service.most <= LIMIT
        assert service.budget.used == 0

    asyncio.run(run())


def test_too_large_body_reaches_the_route_which_refuses_it() -> None:
    service = Service()
    assert asyncio.run(service.ask(parts(), MAX_BYTES + 1))["status"] == 413
    assert asyncio.run(service.ask(parts(*[b"x" * 15] * 100)))["status"] == 413
    assert (service.bodies, service.budget.used) == ([], 0)


def test_sender_of_one_listing_that_sends_nothing_gets_408() -> None:
    async def run() -> None:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        layer = OneListing(receive, receive, BurstSlots(1), None, 1000, SECONDS)  # type: ignore[arg-type]
        await layer({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, send)
        assert sent[0]["status"] == 408
        assert (b"connection", b"close") in sent[0]["headers"]
        assert b"x-request-id" in dict(sent[0]["headers"])

    asyncio.run(run())


@pytest.mark.parametrize("junk", [b"[],", b"{},", b'"",', b"1,", b"[[[[[[[[[[1]]]]]]]]]],"])
def test_body_of_many_small_values_is_refused_before_it_is_parsed(junk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed, such a body would need up to 30 times its size in memory."""
    parser = ListingParser(10)
    monkeypatch.setattr(parser, "_many", None)
    values = VALUES_PER_LISTING * 10
    body = b'[{"unknown": [' + junk * (values + UNCOUNTED_BYTES) + b"1]}]"
    with pytest.raises(TooLargeError, match="the body has more than 640 JSON values, 64 for each of the 10 listings"):
        parser.parse(body)


def test_long_texts_are_not_counted_as_values() -> None:
    listing = {"city": "Agawam", "unknown": "x" * 2 * UNCOUNTED_BYTES}
    assert len(ListingParser(10).parse(json.dumps([listing] * 10).encode())[0]) == 10
