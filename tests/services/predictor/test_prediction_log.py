"""Every price of `POST /predict` and `POST /explain` is stored once in the ledger, and no answer waits for that."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from psycopg.rows import dict_row

import predictor.assembly
from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from core.listing.schema import RANGES
from predictor.assembly import create_app
from predictor.errors import InvalidBodyError
from predictor.http.schemas import StoredFeedback
from predictor.pricing.listing import EXAMPLE
from predictor.record import prediction_log
from predictor.record.prediction_log import PredictionLog
from predictor.record.spill import Row, Spill
from predictor.settings import PredictorSettings
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

from .conftest import Registry, until

AWAY = "postgresql://127.0.0.1:9/ledger"
BODY = json.dumps(EXAMPLE).encode()
ROW: Row = ("2026-11-28T10:00:00+00:00", "a", 0, "{}", 1.5, None, None, "1", 200, None, 0.001)
Start = Callable[..., TestClient]
each_route = pytest.mark.parametrize("path", ["/predict", "/explain"])


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    """A ledger for one test."""
    return new_ledger(local, f"log_{abs(hash(request.node.nodeid))}")


@pytest.fixture
def start(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts the service with or without a model. It stops after the test, or when the test calls `client.leave`."""
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)
    with ExitStack() as stack:

        def start(dsn: str, model: bool = True, **settings: object) -> TestClient:
            defaults = PredictorSettings(
                model_name="house-price",
                model_alias="champion",
                mlflow_tracking_uri="http://127.0.0.1:9",
                ledger_dsn=dsn,
                poll_seconds=3600,
                max_listings=10,
                max_explained=10,
                max_body_bytes=20_000,
                bundle_dir=tmp_path / "bundles",
                prediction_log_dir=tmp_path / "predictions",
            )
            if model:
                registry.add(models[0])
            app = create_app(defaults.model_copy(update=settings))
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            if model:
                until(lambda: client.get("/health/ready").status_code == 200)
            client.leave = stack.close  # type: ignore[attr-defined]
            return client

        yield start


def logged(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute("select * from ledger.predictions order by at, position").fetchall()


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("house_prediction_log_dropped_total", {"reason": reason}) or 0


def log_to(dsn: str, folder: Path, queue_bytes: int = 2**24, spill_bytes: int = 2**24) -> PredictionLog:
    """A log without a running thread. The test calls `flush`."""
    return PredictionLog(dsn, Spill(folder, spill_bytes), queue_bytes)


def answer(log: PredictionLog, request_id: str, price: float = 1.5) -> None:
    content = {"request_id": request_id, "model_version": "1", "price": price, "low": 1.0, "high": 2.0}
    log.answered(time.perf_counter(), request_id, BODY, content)


def estimates(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Price and interval of each listing in an answer of either route, for one listing or for a list."""
    if "prices" in answer:
        columns = zip(answer["prices"], answer["low"], answer["high"], strict=True)
        return [{"price": price, "low": low, "high": high} for price, low, high in columns]
    return [{name: one[name] for name in ("price", "low", "high")} for one in answer.get("explanations", [answer])]


@pytest.mark.services
@each_route
def test_rows_have_the_requests_and_the_answers(start: Start, dsn: str, path: str) -> None:
    client = start(dsn)
    listings = [EXAMPLE, {"state": "Massachusetts", "zip_code": "01001", "owner": "somebody"}, {}]
    began = time.time()
    one = client.post(path, json=EXAMPLE, headers={"X-Request-ID": r"one\tand \" %s".replace(" ", "")})
    many = client.post(path, json=listings, headers={"X-Request-ID": "many"})
    client.leave()  # type: ignore[attr-defined]
    rows = logged(dsn)
    for row in rows:
        assert began - 1 < row.pop("at").timestamp() < time.time() + 1
        assert 0 < row.pop("seconds") < 10
    common = {"model_version": "1", "status": 200, "error": None}
    first, answers = one.json(), many.json()
    assert [rows[0]] == [
        common | {"request_id": first["request_id"], "position": 0, "listing": EXAMPLE} | estimate
        for estimate in estimates(first)
    ]
    listings[1] = {"state": "Massachusetts", "zip_code": "01001"}
    assert rows[1:] == [
        common | {"request_id": "many", "position": at, "listing": listing} | estimate
        for at, (listing, estimate) in enumerate(zip(listings, estimates(answers), strict=True))
    ]


@pytest.mark.services
@each_route
def test_failures_are_logged_with_status_and_error(start: Start, dsn: str, path: str) -> None:
    client = start(dsn)
    bodies = {
        "wrong": b'{"bed": "three"}',
        "no-json": b'\xff\x00 <html> "\\',
        "long": b"x" * 19_000,
        "longer": b"x" * 30_000,
        "many": json.dumps([EXAMPLE] * 11).encode(),
    }
    answers = {name: client.post(path, content=body, headers={"X-Request-ID": name}) for name, body in bodies.items()}
    client.leave()  # type: ignore[attr-defined]
    rows = {row["request_id"]: row for row in logged(dsn)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "wrong": 422, "no-json": 422, "long": 422, "longer": 413, "many": 413,
    }  # fmt: skip
    for name, row in rows.items():
        assert row["status"] == answers[name].status_code
        assert (row["position"], row["price"], row["low"], row["high"]) == (0, None, None, None)
        assert row["model_version"] == "1"
        assert 0 < len(row["error"]) <= 1000
    assert "bed" in rows["wrong"]["error"]
    assert rows["wrong"]["listing"] == '{"bed": "three"}'
    assert rows["no-json"]["listing"] == '\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} <html> "\\'
    assert rows["long"]["listing"] == "x" * 2000
    assert rows["longer"]["listing"] is None, "the body was not read"


@pytest.mark.services
@each_route
def test_request_without_a_model_is_logged(start: Start, dsn: str, path: str) -> None:
    client = start(dsn, model=False)
    assert client.post(path, json=EXAMPLE).status_code == 503
    client.leave()  # type: ignore[attr-defined]
    (row,) = logged(dsn)
    assert (row["status"], row["model_version"], row["price"]) == (503, None, None)
    assert row["error"]


@pytest.mark.services
def test_nothing_is_logged_when_the_log_is_off(start: Start, dsn: str, tmp_path: Path) -> None:
    client = start(dsn, prediction_log=False)
    for path in ("/predict", "/explain"):
        assert client.post(path, json=EXAMPLE).status_code == 200
    client.leave()  # type: ignore[attr-defined]
    assert logged(dsn) == []
    assert not (tmp_path / "predictions").exists()


@pytest.mark.services
def test_values_that_postgresql_cannot_store_are_replaced(dsn: str, tmp_path: Path) -> None:
    log = log_to(dsn, tmp_path)
    content = {"model_version": "1", "price": 1e308, "low": 5e-324, "high": None}
    tiny = b'{"bed": 1e-99999, "bath": 1E-400}'
    log.answered(0, "tiny", tiny, content)
    odd = {"city": "A\0gawam", "street": 1e308, "state": "\\u0000", "prev_sold_date": "2012-10-12T" + "0" * 9000}
    log.answered(0, "odd", json.dumps(odd).encode(), content)
    log.failed(0, "nul", b"\0", None, InvalidBodyError([{"msg": "\0"}]))
    log.flush()
    rows = {row["request_id"]: row for row in logged(dsn)}
    assert rows["tiny"]["listing"] == {"bed": 0, "bath": 0}
    stored = rows["odd"]["listing"]
    assert stored["city"] == "A\N{REPLACEMENT CHARACTER}gawam"
    assert stored["state"] == "\\u0000"
    assert len(stored["prev_sold_date"]) == 200
    assert (rows["odd"]["price"], rows["odd"]["low"], rows["odd"]["high"]) == (1e308, 5e-324, None)
    assert rows["nul"]["listing"] == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.services
def test_request_that_cannot_be_logged_does_not_affect_others(dsn: str, tmp_path: Path) -> None:
    log, before = log_to(dsn, tmp_path), dropped("unreadable")
    answer(log, "a")
    log.answered(0, "odd", b"[1, 2]", {"model_version": "1", "prices": [1.0, 2.0, 3.0], "low": None, "high": None})
    answer(log, "b")
    log.flush()
    assert {row["request_id"] for row in logged(dsn)} == {"a", "b"}
    assert dropped("unreadable") == before + 3


def test_requests_that_arrive_during_a_flush_wait_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load, requests always arrive. Small batches of them would need one connection each."""
    log, written = log_to(AWAY, tmp_path), []

    def write(batch: UUID, rows: list[Row]) -> bool:
        written.append([row[1] for row in rows])
        answer(log, f"during {len(written)}")
        return True

    monkeypatch.setattr(log, "_write", write)
    for number in range(3):
        answer(log, f"before {number}")
    log.flush()
    assert written == [["before 0", "before 1", "before 2"]]
    log.flush()
    assert written[1:] == [["during 1"]]


def test_full_queue_drops_and_counts_requests(tmp_path: Path) -> None:
    log, before = log_to(AWAY, tmp_path, queue_bytes=20_000), dropped("queue_full")
    for number in range(1000):
        answer(log, str(number))
    lost = dropped("queue_full") - before
    assert 980 < lost < 1000
    log.flush()
    assert len(spilled(tmp_path)) == 1000 - lost
    answer(log, "the queue has room again")
    assert dropped("queue_full") == before + lost


def spilled(folder: Path) -> list[Row]:
    """Every row on disk, in the order in which the log will store them."""
    spill = Spill(folder, 0)
    return [row for path in sorted(folder.glob("*.jsonl")) for row in spill.read(path.name)[1]]


@pytest.mark.services
def test_batches_on_disk_are_stored_once_and_in_order(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = log_to(AWAY, tmp_path)
    for number in range(3):
        answer(away, f"old-{number}", 0.1 + number)
        away.flush()
    assert [row[1] for row in spilled(tmp_path)] == ["old-0", "old-1", "old-2"]
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    stored: list[str] = []
    write = Ledger.add_predictions

    def spy(ledger: Ledger, batch: Any, rows: Any) -> None:
        rows = list(rows)
        stored.extend(row[1] for row in rows)
        write(ledger, batch, rows)

    monkeypatch.setattr(Ledger, "add_predictions", spy)
    back = log_to(dsn, tmp_path)
    answer(back, "new")
    back.flush()
    assert stored == ["old-0", "old-1", "old-2", "new"]
    assert list(tmp_path.iterdir()) == []
    for (
        path,
        content,
    ) in kept.items():  # as if another process had read them, or this one was killed before removing them
        path.write_bytes(content)
    log_to(dsn, tmp_path).flush()
    rows = logged(dsn)
    assert [row["request_id"] for row in rows] == ["old-0", "old-1", "old-2", "new"]
    assert [row["price"] for row in rows] == [0.1, 1.1, 2.1, 1.5]


def test_folder_has_a_size_limit_and_lost_rows_are_counted(tmp_path: Path) -> None:
    log, before = log_to(AWAY, tmp_path, spill_bytes=2_000), dropped("spill_full")
    for number in range(20):
        answer(log, str(number))
        log.flush()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000
    kept = [row[1] for row in spilled(tmp_path)]
    assert kept == [str(number) for number in range(len(kept))], "the oldest rows stay"
    assert len(kept) + dropped("spill_full") - before == 20


def test_folder_that_is_not_writable_is_logged_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    log, before = log_to(AWAY, tmp_path / "file"), dropped("spill_failed")
    answer(log, "a")
    log.flush()
    assert dropped("spill_failed") == before + 1
    assert "1 rows of the prediction log are lost: the prediction log cannot be kept on disk" in caplog.text


@pytest.mark.services
def test_file_that_is_not_a_batch_is_set_aside_and_others_are_stored(dsn: str, tmp_path: Path) -> None:
    for number, content in enumerate((b"<html>\n", b'{"a": 1}\n', b"\xff\xff")):
        (tmp_path / f"{number:020}-{uuid4()}.jsonl").write_bytes(content)
    (tmp_path / f"{3:020}-nothing.jsonl").write_bytes(b"[]\n")
    before = dropped("unreadable")
    log = log_to(dsn, tmp_path)
    answer(log, "a")
    log.flush()
    assert [row["request_id"] for row in logged(dsn)] == ["a"]
    assert len(list(tmp_path.glob("*.refused"))) == 4
    assert dropped("unreadable") == before + 4


@pytest.mark.services
def test_row_that_the_database_refuses_is_counted_and_others_are_stored(dsn: str, tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    spill = Spill(tmp_path, 2**20)
    rows = [(ROW[0], str(number), *ROW[2:]) for number in range(50)]
    rows[17] = (*rows[17][:3], "{no json", *rows[17][4:])
    spill.add(uuid4(), rows)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    before = dropped("refused")
    log = log_to(dsn, tmp_path)
    answer(log, "a")
    log.flush()
    assert list(tmp_path.iterdir()) == []
    assert dropped("refused") == before + 1
    for path, content in kept.items():  # as if another process had read it, too
        path.write_bytes(content)
    log_to(dsn, tmp_path).flush()
    expected = {"a", *(str(number) for number in range(50) if number != 17)}
    assert sorted(row["request_id"] for row in logged(dsn)) == sorted(expected), "the other rows are stored once"


@pytest.mark.services
def test_predictions_wait_on_disk_for_the_schema_of_this_release(local: LocalPlatform, tmp_path: Path) -> None:
    dsn = local.database("log_without_schema")
    log = log_to(dsn, tmp_path)
    answer(log, "a")
    log.flush()
    assert [row[1] for row in spilled(tmp_path)] == ["a"]
    Ledger(dsn).ensure_schema()
    log_to(dsn, tmp_path).flush()
    assert [row["request_id"] for row in logged(dsn)] == ["a"]


@pytest.mark.services
def test_database_that_hangs_at_shutdown_loses_no_row(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "STOP_SECONDS", 0.5)
    log = log_to(dsn, tmp_path)
    log.start()
    with psycopg.connect(dsn) as other:
        other.execute("lock table ledger.predictions in access exclusive mode")
        answer(log, "a")
        until(lambda: log._in_transit is not None)
        answer(log, "b")
        log.stop()
        assert sorted(str(row[1]) for row in spilled(tmp_path)) == ["a", "b"]
    until(lambda: not log._thread.is_alive(), 30)
    log_to(dsn, tmp_path).flush()
    assert sorted(row["request_id"] for row in logged(dsn)) == ["a", "b"]


@pytest.mark.services
def test_many_threads_can_log_while_the_log_writes(dsn: str, tmp_path: Path) -> None:
    log = log_to(dsn, tmp_path)
    log.start()
    threads = [
        threading.Thread(target=lambda part=part: [answer(log, f"{part}-{at}") for at in range(500)])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.stop()
    assert len({row["request_id"] for row in logged(dsn)}) == len(logged(dsn)) == 2000
    assert log._queued == 0


@pytest.mark.services
def test_old_rows_are_deleted_while_the_log_is_off(start: Start, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "insert into ledger.predictions (at, request_id, position, price, status, seconds)"
            " select now() - make_interval(hours => h), h::text, 0, 1, 200, 0 from generate_series(1, 96) h"
        )
        connection.execute(
            "insert into ledger.shadow_prices"
            " select at, request_id, position, '1', price, '2', price from ledger.predictions"
        )
    start(dsn, model=False, prediction_log=False, shadow_share=0, prediction_log_retention_days=2)
    until(lambda: len(logged(dsn)) < 96)
    with psycopg.connect(dsn) as connection:
        compared = connection.execute("select request_id from ledger.shadow_prices").fetchall()
    for request_ids in ([row["request_id"] for row in logged(dsn)], [name for (name,) in compared]):
        assert sorted(map(int, request_ids)) == list(range(1, 48))


# -- feedback


@pytest.mark.services
@each_route
def test_feedback_gives_the_live_error_of_each_version(start: Start, dsn: str, path: str) -> None:
    client = start(dsn)
    one = client.post(path, json=EXAMPLE).json()
    many = client.post(path, json=[EXAMPLE, {}]).json()
    until(lambda: len(logged(dsn)) == 3)

    def send(status: int = 200, **feedback: object) -> Any:
        response = client.post("/feedback", json=feedback)
        assert response.status_code == status, response.text
        return response.json()

    true = (one["price"] + one["high"]) / 2
    error = true - one["price"]
    assert send(request_id=one["request_id"], price=1000.0) == {
        "request_id": one["request_id"], "position": 0, "price": 1000.0,
    }  # fmt: skip
    StoredFeedback.model_validate(send(request_id=one["request_id"], price=true))
    send(request_id=one["request_id"], price=true)
    predicted = estimates(many)[1]["price"]
    send(request_id=many["request_id"], position=1, price=predicted / 10)
    errors = client.get("/history").json()["live_errors"]
    gap = predicted * 0.9
    assert errors == [
        {
            "model_version": "1",
            "count": 2,
            "mae": pytest.approx((error + gap) / 2),
            "median_ape": pytest.approx((error / true + 9) / 2),
            "coverage": 0.5,
        }
    ]
    for unknown in ({"request_id": "unknown"}, {"request_id": many["request_id"], "position": 2}):
        assert "is in the log" in send(404, **unknown, price=1000.0)["detail"]


@pytest.mark.services
def test_failed_request_accepts_no_feedback(start: Start, dsn: str) -> None:
    client = start(dsn)
    failed = client.post("/predict", content=b"{", headers={"X-Request-ID": "failed"})
    assert failed.status_code == 422
    until(lambda: len(logged(dsn)) == 1)
    assert client.post("/feedback", json={"request_id": "failed", "price": 1000.0}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"price": 1000}', "request_id"),
        (b'{"request_id": "a"}', "price"),
        (b'{"request_id": "a", "price": 0}', "price"),
        (b'{"request_id": "a", "price": -1}', "price"),
        (b'{"request_id": "a", "price": NaN}', "price"),
        (b'{"request_id": "a", "price": "1"}', "price"),
        (b'{"request_id": "a", "price": 1e999}', "price"),
        (b'{"request_id": "a b", "price": 1000}', "request_id"),
        (b'{"request_id": "\\u0000", "price": 1000}', "request_id"),
        (b'{"request_id": "a", "price": 1000, "position": -1}', "position"),
        (b'{"request_id": "a", "price": 1000, "position": 3000000000}', "position"),
        (b'{"request_id": "a", "price": 1000, "true_price": 2}', "true_price"),
    ],
)
def test_invalid_feedback_is_refused_with_its_field(start: Start, body: bytes, field: str | None) -> None:
    client = start(AWAY, model=False, prediction_log=False)
    response = client.post("/feedback", content=body)
    assert response.status_code == 422, response.text
    if field:
        assert response.json()["detail"][0]["loc"] == ["body", field]


def test_feedback_without_the_ledger_gives_503_with_retry_after(start: Start) -> None:
    client = start(AWAY, model=False, prediction_log=False)
    response = client.post("/feedback", json={"request_id": "a", "price": 1000.0})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert client.post("/feedback", content=b"x" * 20_000).status_code == 413


def test_feedback_requires_an_api_key_if_prices_do(start: Start) -> None:
    client = start(AWAY, model=False, prediction_log=False, require_api_key=True, api_keys="key")
    feedback = {"request_id": "a", "price": 1000.0}
    assert client.post("/feedback", json=feedback).status_code == 401
    assert client.post("/feedback", json=feedback, headers={"Authorization": "Bearer key"}).status_code == 503


def test_openapi_describes_feedback(start: Start) -> None:
    document = start(AWAY, model=False, prediction_log=False).get("/openapi.json").json()
    described = document["paths"]["/feedback"]["post"]
    assert set(described["responses"]) == {"200", "404", "408", "413", "422", "503"}
    schema = document["components"]["schemas"]["Feedback"]
    assert set(schema["required"]) == {"request_id", "price"}
    price = schema["properties"]["price"]
    assert (price["minimum"], price["maximum"]) == RANGES["price"]
    assert "1,000 to 1,000,000,000" in price["description"]
