"""Hostile requests: each is answered or refused with a reason, and none reaches the ledger in a form that harms it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as some
from prometheus_client import REGISTRY

import predictor.assembly
from ci.local.processes import LocalPlatform
from core.errors import RefusedRowsError
from core.ledger import Ledger
from core.listing.schema import LATEST_SALE, MAX_NAME_LENGTH, OLDEST_SALE, RANGES
from predictor.assembly import create_app
from predictor.errors import InvalidBodyError
from predictor.http.feedback import parse
from predictor.pricing.listing import EXAMPLE, ListingParser
from predictor.record.history import LedgerHistory
from predictor.record.ledger_metrics import LedgerMetrics
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

from .conftest import SETTINGS, Registry, until

DEEP, TOO_DEEP = (b"[" * depth + b"]" * depth for depth in (150, 5000))
# values of a field that are valid JSON, or nearly so
VALUES = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "1e999": b"1e999",
    "1e308": b"1e308",
    "-1e308": b"-1e308",
    "-1e-999": b"-1e-999",
    "minus zero": b"-0.0",
    "integer of 300 digits": b"9" * 300,
    "integer of 4,200 digits": b"9" * 4200,
    "integer of 5,000 digits": b"9" * 5000,
    "20,000 decimals": b"1." + b"3" * 20_000,
    "true": b"true",
    "NUL": b'"\\u0000"',
    "number as text": b'"1000"',
    "other digits": '"\u0661\u0660\u0660\u0660"'.encode(),
    "full-width date": '"\uff12\uff10\uff11\uff12-10-12"'.encode(),
    "lone surrogate": b'"\\ud800"',
    "surrogate pair": b'"\\ud83c\\udfe0"',
    "no UTF-8": b'"\xff"',
    "raw control character": b'"\x00"',
    "long text": b'"' + b"x" * 50_000 + b'"',
    "line end": b'"a\\n"',
    "quotes": b'"\'; drop table ledger.feedback; --"',
    "date of year 1": b'"0001-01-01"',
    "date of year 9999": b'"9999-12-31T00:00:00Z"',
    "object": b'{"a": {"b": 1}}',
    "deep": DEEP,
    "too deep": TOO_DEEP,
    "null": b"null",
}
BODIES = {
    "duplicate keys": b'{"bed": -1, "bed": 2, "request_id": "x", "request_id": "a", "price": -1, "price": 1000}',
    "NUL in a key": b'{"\\u0000": 1, "bed": 2}',
    "long key": b'{"' + b"k" * 50_000 + b'": 1}',
    "too deep list": TOO_DEEP,
    "UTF-16": "{}".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL bytes": b"\0" * 100,
    "nothing": b"",
}


def bodies(fields: list[str], **valid: object) -> dict[str, bytes]:
    """The bodies to send: each hostile value in each of the fields and in an unknown one, and the hostile bodies."""
    named = dict(BODIES)
    for field in [*fields, "unknown"]:
        rest = json.dumps({name: value for name, value in valid.items() if name != field}).encode().removesuffix(b"}")
        separator = b"" if rest == b"{" else b", "
        for name, value in VALUES.items():
            named[f"{field}: {name}"] = rest + separator + b'"%s": %s}' % (field.encode(), value)
    return named


@dataclass
class Service:
    """A predictor with a prediction log."""

    client: TestClient
    dsn: str

    def logged(self) -> dict[str, tuple[int, float | None]]:
        """Status and price by request id."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("select request_id, status, price from ledger.predictions").fetchall()
        return {request_id: (status, price) for request_id, status, price in rows}


@pytest.fixture
def service(
    local: LocalPlatform,
    registry: Registry,
    models: tuple[Model, Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Service]:
    dsn = new_ledger(local, f"hostile_{abs(hash(request.node.nodeid))}")
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)
    registry.add(models[0])
    settings = SETTINGS.model_copy(
        update={
            "ledger_dsn": dsn,
            "prediction_log": True,
            "bundle_dir": tmp_path / "bundles",
            "prediction_log_dir": tmp_path / "predictions",
        }
    )
    with ExitStack() as stack:
        client = stack.enter_context(TestClient(create_app(settings), raise_server_exceptions=False))
        until(lambda: client.get("/health/ready").status_code == 200)
        yield Service(client, dsn)


def lost() -> float:
    """Lost rows of the prediction log, for any reason."""
    name = "house_prediction_log_dropped_total"
    return sum(sample.value for family in REGISTRY.collect() for sample in family.samples if sample.name == name)


def check_reason(answer: Any, case: str) -> None:
    """A refusal names the place and the rule of each error, in valid JSON without NaN."""
    assert 400 <= answer.status_code < 500, f"{case}: {answer.status_code} {answer.text[:300]}"
    detail = json.loads(answer.text, parse_constant=pytest.fail)["detail"]
    if answer.status_code == 422:
        assert detail, case
        for error in detail:
            assert error["loc"][0] == "body", case
            assert error["msg"], case


@pytest.mark.services
@pytest.mark.parametrize("many", [False, True], ids=["one listing", "a list"])
def test_hostile_listing_is_priced_or_refused_and_logged(service: Service, many: bool) -> None:
    before = lost()
    expected = {}
    for at, (case, body) in enumerate(bodies(list(EXAMPLE), **EXAMPLE).items()):
        content = b"[%s]" % body if many else body
        answer = service.client.post("/predict", content=content, headers={"X-Request-ID": f"case-{at}"})
        expected[f"case-{at}"] = answer.status_code
        if answer.status_code == 200:
            price = answer.json()["prices"][0] if many else answer.json()["price"]
            assert math.isfinite(price), case
            assert price > 0, case
        else:
            check_reason(answer, case)
    assert set(expected.values()) == {200, 422}
    until(lambda: len(service.logged()) == len(expected))
    assert {request_id: status for request_id, (status, _) in service.logged().items()} == expected
    assert lost() == before


@pytest.mark.services
def test_hostile_feedback_is_stored_or_refused(service: Service) -> None:
    priced = service.client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": "a"})
    assert priced.status_code == 200
    until(lambda: "a" in service.logged())
    accepted = set()
    for case, body in bodies(["request_id", "position", "price"], request_id="a", price=250_000).items():
        answer = service.client.post("/feedback", content=body)
        if answer.status_code == 200:
            accepted.add(case)
        else:
            check_reason(answer, case)
    assert accepted == {"position: minus zero", "position: -1e-999"}
    repeated = b'{"request_id": "x", "request_id": "a", "price": -1, "price": 300000}'  # the last one counts
    assert service.client.post("/feedback", content=repeated).json()["price"] == 300_000
    [error] = service.client.get("/history").json()["live_errors"]
    assert error["count"] == 1


@pytest.mark.services
@pytest.mark.parametrize("request_id", ["\0", "a" * 200, "é", "a b", "\ud83c", "'; drop table ledger.predictions"])
def test_hostile_request_id_is_replaced(service: Service, request_id: str) -> None:
    header = request_id.encode("utf-8", "surrogatepass")
    answer = service.client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": header})
    assert answer.status_code == 200
    until(lambda: list(service.logged()) == [answer.json()["request_id"]])
    assert len(answer.json()["request_id"]) == 32


@pytest.mark.services
def test_invalid_rows_of_the_ledger_break_neither_history_nor_metrics(service: Service) -> None:
    client = service.client
    for request_id in ("good", "bad"):
        assert client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": request_id}).status_code == 200
    until(lambda: len(service.logged()) == 2)
    assert client.post("/feedback", json={"request_id": "good", "price": 250_000}).status_code == 200
    with psycopg.connect(service.dsn) as connection:
        connection.execute("alter table ledger.feedback drop constraint feedback_price_check")
        connection.execute("alter table ledger.feedback drop constraint feedback_price_range")
        for price in (1e200, math.nan, math.inf, -1.0, 0.0):
            connection.execute(
                "insert into ledger.feedback (request_id, position, price) values ('bad', 0, %s)", [price]
            )
            connection.execute(
                "insert into ledger.predictions values"
                " (now(), 'other', 0, '{}', %s, null, null, '9', 200, null, 0.001)",
                [price],
            )
    answer = client.get("/history")
    assert answer.status_code == 200, answer.text
    [error] = answer.json()["live_errors"]
    assert (error["model_version"], error["count"]) == ("1", 1)
    counts = [{"source": "feedback", "count": 5}, {"source": "predictions", "count": 5}]
    assert answer.json()["invalid_prices"] == [*counts, {"source": "shadow_prices", "count": 0}]
    LedgerMetrics(LedgerHistory(service.dsn), 30).refresh()
    assert REGISTRY.get_sample_value("house_ledger_up") == 1
    assert REGISTRY.get_sample_value("house_feedback", {"version": "1"}) == 1
    assert REGISTRY.get_sample_value("house_feedback", {"version": "9"}) is None
    assert REGISTRY.get_sample_value("house_invalid_prices", {"source": "feedback"}) == 5


def test_figure_that_a_stored_value_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema of an earlier release has no limits for prices."""

    def broken(_: Ledger) -> list[dict[str, Any]]:
        raise RefusedRowsError("value out of range: overflow")

    for name, rows in (("history", [{"batch_number": 0}]), ("gaps", [1]), ("champions", []), ("invalid_prices", [])):
        monkeypatch.setattr(Ledger, name, lambda _, rows=rows: rows)
    monkeypatch.setattr(Ledger, "live_errors", broken)
    history = LedgerHistory("postgresql://127.0.0.1:9/ledger").read()
    assert (history["batches"], history["gaps"], history["live_errors"]) == ([{"batch_number": 0}], [1], [])


@pytest.mark.services
def test_feedback_that_the_ledger_itself_refuses_is_a_refusal_with_its_reason(service: Service) -> None:
    """A newer schema may have stricter rules than this code."""
    assert service.client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": "a"}).status_code == 200
    until(lambda: "a" in service.logged())
    with psycopg.connect(service.dsn) as connection:
        connection.execute("alter table ledger.feedback add constraint stricter check (price < 2000)")
    answer = service.client.post("/feedback", json={"request_id": "a", "price": 250_000})
    assert answer.status_code == 422
    assert 'violates check constraint "stricter"' in answer.json()["detail"][0]["msg"]


numbers = some.floats() | some.integers() | some.sampled_from([-0.0, 1e308, 10**400, *RANGES["price"]])


def refusal(read: Callable[[bytes], object], body: object) -> dict[str, Any] | None:
    """The only error of a body; None if it is accepted."""
    try:
        read(json.dumps(body).encode())
    except InvalidBodyError as refused:
        [error] = refused.errors
        return error
    return None


@given(numbers)
@example(1e200)
@example(math.nan)
@example(math.inf)
def test_feedback_accepts_exactly_the_prices_in_the_range(price: float) -> None:
    least, most = RANGES["price"]
    error = refusal(parse, {"request_id": "a", "price": price})
    assert (error is None) == (least <= price <= most)
    if error:
        assert error["loc"] == ["body", "price"]
        assert error["msg"].endswith("(allowed: 1,000 to 1,000,000,000)")


@given(some.sampled_from(sorted(RANGES.keys() - {"price"})), numbers)
@example("house_size", 1e300)
def test_listing_accepts_exactly_the_numbers_in_the_range(field: str, value: float) -> None:
    error = refusal(ListingParser(1).parse, {field: value})
    least, most = RANGES[field]
    assert (error is None) == (least <= value <= most)
    if error:
        assert error["loc"] == ["body", field]
        # an integer that no float can hold is not a number for pydantic
        assert error["type"] == "float_type" or error["msg"].endswith(f"(allowed: {least:,} to {most:,})")


@given(some.dates())
@example(OLDEST_SALE)
@example(LATEST_SALE)
def test_listing_accepts_exactly_the_dates_in_the_range(day: Any) -> None:
    error = refusal(ListingParser(1).parse, {"prev_sold_date": day.isoformat()})
    assert (error is None) == (OLDEST_SALE <= day <= LATEST_SALE)
    if error:
        assert error["msg"] == "Date should be from 1800-01-01 to 2100-12-31"


@given(some.integers(MAX_NAME_LENGTH - 2, MAX_NAME_LENGTH + 2), some.sampled_from(["status", "city", "state"]))
def test_listing_accepts_exactly_the_texts_within_the_limit(length: int, field: str) -> None:
    error = refusal(ListingParser(1).parse, {field: "\N{HOUSE BUILDING}" * length})
    assert (error is None) == (length <= MAX_NAME_LENGTH)
    if error:
        assert f"at most {MAX_NAME_LENGTH} characters" in error["msg"]
