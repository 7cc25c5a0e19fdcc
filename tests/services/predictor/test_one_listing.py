"""The fast path for one listing gives the same answers, errors and metrics as the route."""

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
from predictor.http.load_shedding import BurstSlots
from predictor.http.metrics import HttpMetrics
from predictor.http.one_listing import REFUSAL_DELAY_SECONDS, OneListing
from predictor.http.routes import INLINE_BYTES
from predictor.pricing.listing import EXAMPLE, is_list
from predictor.pricing.price import Pricing

from .conftest import until
from .strategies import listings

SERIES = re.compile(r'^(?:http|house_pred)[^#\n]*(?:handler="/predict"|house_)[^#\n]*$', re.MULTILINE)
BODIES = {
    "a listing": json.dumps(EXAMPLE).encode(),
    "whitespace around it": b" \n " + json.dumps(EXAMPLE).encode() + b" ",
    "no fields": b"{}",
    "unknown fields": b'{"price": 1, "colour": "red"}',
    "not ASCII": '{"city": "Mayagüez", "state": "Puerto Rico 🏠"}'.encode(),
    "invalid fields": b'{"bed": "many", "zip_code": true}',
    "NaN": b'{"bed": NaN}',
    "a number": b"3",
    "not JSON": b"{",
    "not UTF-8": b'{"city": "\xff"}',
    "empty": b"",
    "only whitespace": b"   ",
}


def ask(client: TestClient, body: bytes, routed: bool = False) -> Response:
    """Post a body. With `routed`, the fast path is off, so that the route answers."""
    with pytest.MonkeyPatch.context() as patch:
        if routed:
            patch.setattr(OneListing, "_is_one_listing", lambda *_: False)
        return client.post("/predict", content=body, headers={"X-Request-ID": "mine"})


def counted() -> dict[str, float]:
    """The metrics that a request changes, without durations."""
    series = dict(line.rsplit(" ", 1) for line in SERIES.findall(generate_latest(REGISTRY).decode()))
    return {
        name: float(value) for name, value in series.items() if not re.search("_created|seconds_(sum|bucket)", name)
    }


def increase(action: Callable[[], object]) -> dict[str, float]:
    before = counted()
    action()
    return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}


@pytest.fixture
def fast(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request, whether the fast path answered it."""
    taken: list[bool] = []
    original = OneListing._is_one_listing

    def spy(layer: OneListing, message: Any) -> bool:
        taken.append(original(layer, message))
        return taken[-1]

    monkeypatch.setattr(OneListing, "_is_one_listing", spy)
    return taken


@pytest.mark.parametrize("name", BODIES)
def test_answer_and_metrics_are_the_same_as_from_the_route(client: TestClient, fast: list[bool], name: str) -> None:
    body, answers = BODIES[name], []
    counts = [increase(lambda to=to: answers.append(ask(client, body, routed=to))) for to in (False, True)]
    direct, routed = answers
    assert fast == [True]
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
def test_any_listing_gets_the_same_answer_as_from_the_route(client: TestClient, row: dict[str, Any]) -> None:
    body = json.dumps(row).encode()
    direct = ask(client, body).json()
    assert direct == ask(client, body, routed=True).json()
    assert direct["price"] == ask(client, b"[%s]" % body).json()["prices"][0]


def test_other_requests_go_on_to_the_route(client: TestClient, fast: list[bool]) -> None:
    long = {**EXAMPLE, "more": "x" * INLINE_BYTES}
    assert client.post("/predict", json=[EXAMPLE]).status_code == 200
    assert client.post("/predict", json=long).status_code == 200
    assert fast == [False, False]
    assert client.get("/predict").status_code == 405
    assert client.post("/predict/", json=EXAMPLE).status_code == 200, "after a redirect"
    assert client.post("/explain", json=EXAMPLE).status_code == 200
    assert fast == [False, False, True]


def test_answer_without_a_model_has_the_cause(empty: TestClient) -> None:
    until(lambda: "alias" in empty.get("/model").text)
    direct, routed = (ask(empty, BODIES["a listing"], routed=to) for to in (False, True))
    assert (direct.status_code, direct.headers["Retry-After"], direct.json()) == (503, "5", routed.json())


def test_bug_is_counted_and_its_log_lines_have_the_request_id(
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
def test_price_that_is_not_finite_gives_500(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    price: float,
) -> None:
    bundle = client.app.state.follower.state.model.bundle  # type: ignore[attr-defined]
    monkeypatch.setattr(type(bundle), "estimate_one", lambda *_: {"price": price, "low": None, "high": None})
    for to in (False, True):
        answer = ask(client, b"{}", routed=to)
        assert (answer.status_code, answer.json()["detail"]) == (
            500,
            "the model returned a price that is not a finite number",
        )


def test_requests_in_flight_are_counted_on_both_paths(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    pricing = client.app.state.pricing  # type: ignore[attr-defined]
    original = pricing.answer

    def spy(*arguments: Any) -> Any:
        seen.append(REGISTRY.get_sample_value("house_requests_in_flight"))
        return original(*arguments)

    monkeypatch.setattr(pricing, "answer", spy)
    for to in (False, True):
        ask(client, b"{}", routed=to)
    assert seen == [1, 1]
    assert REGISTRY.get_sample_value("house_requests_in_flight") == 0


def fast_path(slots: BurstSlots) -> OneListing:
    """The middleware with a model that prices everything at one dollar."""

    async def route(*_: object) -> None:
        raise AssertionError("the test sends single listings only")

    pricing: Any = SimpleNamespace(answer=lambda *_: {"price": 1.0})
    return OneListing(route, pricing, slots, None, 100, 20)


async def post(layer: OneListing, body: asyncio.Event) -> int:
    """Status of the answer to a listing whose body arrives when `body` is set."""
    statuses = []

    async def receive() -> Message:
        await body.wait()
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    await layer({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, send)
    return int(statuses[0])


def test_slow_sender_takes_no_slot() -> None:
    async def run() -> None:
        layer, here, later = fast_path(BurstSlots(1)), asyncio.Event(), asyncio.Event()
        here.set()
        slow = [asyncio.create_task(post(layer, later)) for _ in range(10)]
        for _ in range(3):
            await asyncio.sleep(0)
            assert await post(layer, here) == 200
        later.set()
        assert 200 in await asyncio.gather(*slow)

    asyncio.run(run())


def test_refusal_is_delayed_but_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that retry immediately would take time from the accepted requests."""
    sleep, waits = asyncio.sleep, []

    async def slept(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", slept)

    async def run() -> list[int]:
        layer, here = fast_path(BurstSlots(2)), asyncio.Event()
        here.set()
        return await asyncio.gather(*(post(layer, here) for _ in range(5)))

    def latency() -> float:
        return REGISTRY.get_sample_value("http_request_duration_highr_seconds_sum") or 0

    before = latency()
    assert sorted(asyncio.run(run())) == [200, 200, 503, 503, 503]
    assert sorted(waits) == [0, 0, *[REFUSAL_DELAY_SECONDS] * 3]
    assert latency() - before < REFUSAL_DELAY_SECONDS


def test_metrics_are_the_default_of_the_instrumentator() -> None:
    """Public dashboards and alerts rely on these names, labels and buckets."""
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
        message: Any = SimpleNamespace(headers=headers)
        for each in (count, metrics.count):
            each(instrumentator.Info(message, message, method, handler, status, seconds))

    def text(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert text(ours) == text(theirs)


def test_limit_of_the_body_applies_to_the_fast_path() -> None:
    pricing: Any = Pricing(SimpleNamespace(state=None), 1, 1)  # type: ignore[arg-type]
    layer = OneListing(pricing, pricing, BurstSlots(0), None, 10, 20)
    assert layer._is_one_listing({"type": "http.request", "body": b"{        }"})
    assert not layer._is_one_listing({"type": "http.request", "body": b"{         }"})
    assert not layer._is_one_listing({"type": "http.request", "body": b"{}", "more_body": True})
    assert not layer._is_one_listing({"type": "http.disconnect"})
    assert is_list(b" [1]")
