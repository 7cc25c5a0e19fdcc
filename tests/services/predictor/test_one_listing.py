"""One listing takes a way of its own to its price, and nobody can tell: answers, errors and metrics are the route's."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import HealthCheck, given, settings
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator import metrics as instrumentator
from starlette.types import Message

from predictor import logs
from predictor.http_metrics import HttpMetrics
from predictor.in_flight import Queue
from predictor.listing import EXAMPLE, is_list
from predictor.one_listing import REFUSED_AFTER_SECONDS, OneListing
from predictor.pricing import Pricing
from predictor.routes import INLINE_BYTES

from .conftest import until
from .test_pricing import listings

SERIES = re.compile(r'^(?:http|house_pred)[^#\n]*(?:handler="/predict"|house_)[^#\n]*$', re.MULTILINE)
BODIES = {
    "a listing": json.dumps(EXAMPLE).encode(),
    "blanks around it": b" \n " + json.dumps(EXAMPLE).encode() + b" ",
    "no field": b"{}",
    "unknown fields": b'{"price": 1, "colour": "red"}',
    "not ASCII": '{"city": "Mayagüez", "state": "Puerto Rico 🏠"}'.encode(),
    "a wrong field": b'{"bed": "many", "zip_code": true}',
    "NaN": b'{"bed": NaN}',
    "a number": b"3",
    "not JSON": b"{",
    "not UTF-8": b'{"city": "\xff"}',
    "nothing": b"",
    "blanks": b"   ",
}


def ask(client: TestClient, body: bytes, routed: bool = False) -> Response:
    """Post a body; `routed`: with the way of its own closed, so that the route answers."""
    with pytest.MonkeyPatch.context() as patch:
        if routed:
            patch.setattr(OneListing, "_is_one", lambda *_: False)
        return client.post("/predict", content=body, headers={"X-Request-ID": "mine"})


def counted() -> dict[str, float]:
    """All series that a price counts into, but for the seconds."""
    found = dict(line.rsplit(" ", 1) for line in SERIES.findall(generate_latest(REGISTRY).decode()))
    return {name: float(value) for name, value in found.items() if not re.search("_created|seconds_(sum|bucket)", name)}


def increase(action: Callable[[], object]) -> dict[str, float]:
    before = counted()
    action()
    return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}


@pytest.fixture
def ways(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """True for each request that was answered without the route."""
    taken: list[bool] = []
    right = OneListing._is_one

    def spied(layer: OneListing, message: Any) -> bool:
        taken.append(right(layer, message))
        return taken[-1]

    monkeypatch.setattr(OneListing, "_is_one", spied)
    return taken


@pytest.mark.parametrize("name", BODIES)
def test_answer_and_metrics_are_those_of_the_route(client: TestClient, ways: list[bool], name: str) -> None:
    body, answers = BODIES[name], []
    counts = [increase(lambda to=to: answers.append(ask(client, body, routed=to))) for to in (False, True)]
    direct, routed = answers
    assert ways == [True]
    assert direct.status_code == routed.status_code
    assert direct.json() == routed.json()
    assert direct.headers.multi_items() == routed.headers.multi_items()
    assert counts[0] == counts[1]
    status = f"{direct.status_code // 100}xx"
    assert counts[0][f'http_requests_total{{handler="/predict",method="POST",status="{status}"}}'] == 1
    assert counts[0].get('http_request_size_bytes_sum{handler="/predict"}', 0) == len(body)
    assert counts[0]['http_response_size_bytes_sum{handler="/predict"}'] == len(direct.content)
    assert counts[0]['http_request_duration_seconds_count{handler="/predict",method="POST"}'] == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(row=listings)
def test_any_listing_is_answered_as_by_the_route(client: TestClient, row: dict[str, Any]) -> None:
    body = json.dumps(row).encode()
    direct = ask(client, body).json()
    assert direct == ask(client, body, routed=True).json()
    assert direct["price"] == ask(client, b"[%s]" % body).json()["prices"][0]


def test_what_is_no_plain_listing_goes_on_to_the_route(client: TestClient, ways: list[bool]) -> None:
    long = {**EXAMPLE, "more": "x" * INLINE_BYTES}
    assert client.post("/predict", json=[EXAMPLE]).status_code == 200
    assert client.post("/predict", json=long).status_code == 200
    assert ways == [False, False]
    assert client.get("/predict").status_code == 405
    assert client.post("/predict/", json=EXAMPLE).status_code == 200, "by a redirect"
    assert client.post("/explain", json=EXAMPLE).status_code == 200
    assert ways == [False, False, True]


def test_without_a_model_it_says_why(empty: TestClient) -> None:
    until(lambda: "alias" in empty.get("/model").text)
    direct, routed = (ask(empty, BODIES["a listing"], routed=to) for to in (False, True))
    assert (direct.status_code, direct.headers["Retry-After"], direct.json()) == (503, "5", routed.json())


def test_fault_is_counted_and_its_log_lines_have_the_id(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def broken(*_: object) -> None:
        seen.append(logs.request_id.get())
        raise ZeroDivisionError

    monkeypatch.setattr(client.app.state.pricing, "answer", broken)  # type: ignore[attr-defined]
    for to in (False, True):
        counts = increase(lambda to=to: ask(client, b"{}", routed=to))
        assert counts['http_requests_total{handler="/predict",method="POST",status="5xx"}'] == 1
    assert seen == ["mine", "mine"]


@pytest.mark.parametrize("price", [float("nan"), float("inf")])
def test_price_that_is_no_number_is_a_fault_and_never_an_answer(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    price: float,
) -> None:
    bundle = client.app.state.follower.state.served.bundle  # type: ignore[attr-defined]
    monkeypatch.setattr(type(bundle), "estimate_one", lambda *_: {"price": price, "low": None, "high": None})
    for to in (False, True):
        answer = ask(client, b"{}", routed=to)
        assert (answer.status_code, answer.json()["detail"]) == (500, "the model gives no number as the price")


def test_requests_in_flight_are_counted_on_both_ways(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    pricing = client.app.state.pricing  # type: ignore[attr-defined]
    right = pricing.answer

    def spied(*arguments: Any) -> Any:
        seen.append(REGISTRY.get_sample_value("house_requests_in_flight"))
        return right(*arguments)

    monkeypatch.setattr(pricing, "answer", spied)
    for to in (False, True):
        ask(client, b"{}", routed=to)
    assert seen == [1, 1]
    assert REGISTRY.get_sample_value("house_requests_in_flight") == 0


def listing_layer(queue: Queue) -> OneListing:
    """It prices everything at a dollar."""

    async def route(*_: object) -> None:
        raise AssertionError("only a listing comes")

    return OneListing(route, SimpleNamespace(answer=lambda *_: {"price": 1.0}), queue, None, 100)  # type: ignore[arg-type]


async def post(layer: OneListing, body: asyncio.Event) -> int:
    """The status of the answer to a listing whose body comes with `body`."""
    statuses = []

    async def receive() -> Message:
        await body.wait()
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    await layer({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, send)
    return int(statuses[0])


def test_who_sends_slowly_holds_no_place() -> None:
    async def run() -> None:
        layer, here, later = listing_layer(Queue(1)), asyncio.Event(), asyncio.Event()
        here.set()
        slow = [asyncio.create_task(post(layer, later)) for _ in range(10)]
        for _ in range(3):
            await asyncio.sleep(0)
            assert await post(layer, here) == 200
        later.set()
        assert 200 in await asyncio.gather(*slow)

    asyncio.run(run())


def test_refusal_is_told_late_and_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that ask again at once would take the time of those who are priced."""
    sleep, waits = asyncio.sleep, []

    async def slept(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", slept)

    async def run() -> list[int]:
        layer, here = listing_layer(Queue(2)), asyncio.Event()
        here.set()
        return await asyncio.gather(*(post(layer, here) for _ in range(5)))

    def latency() -> float:
        return REGISTRY.get_sample_value("http_request_duration_highr_seconds_sum") or 0

    before = latency()
    assert sorted(asyncio.run(run())) == [200, 200, 503, 503, 503]
    assert sorted(waits) == [0, 0, *[REFUSED_AFTER_SECONDS] * 3]
    assert latency() - before < REFUSED_AFTER_SECONDS


def test_metrics_are_the_instrumentators_default() -> None:
    """Dashboards and alerts of others find the names, labels and buckets that they know."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    count = instrumentator.default(registry=theirs)
    metrics = HttpMetrics(ours)
    assert count is not None
    for method, handler, status, size, seconds in (
        ("POST", "/predict", "2xx", 100, 0.004),
        ("POST", "/predict", "5xx", 10, 0.02),
        ("GET", "none", "4xx", None, 3.0),
        ("GET", "/model", "2xx", 0, 70.0),
    ):
        headers = {} if size is None else {"Content-Length": str(size)}
        told: Any = SimpleNamespace(headers=headers)
        for each in (count, metrics.count):
            each(instrumentator.Info(told, told, method, handler, status, seconds))

    def text(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert text(ours) == text(theirs)


def test_setting_of_the_longest_body_holds_for_it() -> None:
    pricing: Any = Pricing(SimpleNamespace(state=None), 1, 1)  # type: ignore[arg-type]
    layer = OneListing(pricing, pricing, Queue(0), None, 10)
    assert layer._is_one({"type": "http.request", "body": b"{        }"})
    assert not layer._is_one({"type": "http.request", "body": b"{         }"})
    assert not layer._is_one({"type": "http.request", "body": b"{}", "more_body": True})
    assert not layer._is_one({"type": "http.disconnect"})
    assert is_list(b" [1]")
