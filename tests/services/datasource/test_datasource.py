"""The data source has the contract of the real data API."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from prometheus_client import REGISTRY, generate_latest

from datasource import recorded, synthetic
from datasource.listings import COLUMNS, SHAPES

WHO = {"group_number": 1, "day": "Tuesday"}


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """A function that starts the application with given settings."""

    def with_settings(**settings: str) -> TestClient:
        defaults = {"SCALE": "0.002", "LATENCY_SCALE": "0", "ADMIN_ENABLED": "true", "HOUSE_RECORDING_DIR": ""}
        for name, value in (defaults | settings).items():
            monkeypatch.setenv(name, value)
        for module in [name for name in sys.modules if name in ("datasource.app", "datasource.settings")]:
            del sys.modules[module]
        return TestClient(importlib.import_module("datasource.app").app, raise_server_exceptions=False)

    yield with_settings
    for module in ("datasource.app", "datasource.settings"):
        sys.modules.pop(module, None)


def drain(client: TestClient) -> list[Response]:
    answers = []
    while not answers or answers[-1].status_code == 200:
        answers.append(client.get("/data", params=WHO))
    return answers


def test_batches_come_in_order_and_then_the_end_of_data(start: Callable[..., TestClient]) -> None:
    *batches, end = drain(start())
    assert [batch.json()["batch_number"] for batch in batches] == [0, 1, 2, 3, 4, 5]
    assert end.status_code == 400
    assert "Ya se recolect" in end.json()["detail"]


def test_drained_source_restarts_with_the_same_content(start: Callable[..., TestClient]) -> None:
    client = start(BATCHES="0,3")
    first = [answer.content for answer in drain(client)]
    assert client.get("/restart_data_generation", params=WHO).json() == {"ok": True}
    assert [answer.content for answer in drain(client)] == first


def test_callers_have_cursors_of_their_own(start: Callable[..., TestClient]) -> None:
    client = start()
    client.get("/data", params=WHO)
    assert client.get("/data", params=WHO | {"day": "Friday"}).json()["batch_number"] == 0
    assert client.get("/data", params=WHO).json()["batch_number"] == 1


def test_rows_have_the_types_of_the_real_service(start: Callable[..., TestClient]) -> None:
    answer = start().get("/data", params=WHO).json()
    assert list(answer) == ["group_number", "day", "batch_number", "data"]
    for row in answer["data"]:
        assert tuple(row) == COLUMNS
        for name, value in row.items():
            expected = str if name in ("status", "city", "state", "prev_sold_date") else float
            assert isinstance(value, expected), f"{name} is {value!r}"


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ({"group_number": 99, "day": "Tuesday"}, 400, "Número de grupo inválido"),
        ({"day": "Tuesday"}, 422, ""),
        ({"group_number": "one", "day": "Tuesday"}, 422, ""),
    ],
)
def test_bad_parameters(start: Callable[..., TestClient], query: dict[str, object], status: int, detail: str) -> None:
    answer = start().get("/data", params=query)
    assert answer.status_code == status
    assert detail in str(answer.json()["detail"])


def test_planned_fault_happens_once(start: Callable[..., TestClient]) -> None:
    client = start()

    def faulty(kind: str) -> Response:
        assert client.post("/admin/faults", json={"kind": kind, "seconds": 0}).status_code == 201
        return client.get("/data", params=WHO)

    assert faulty("error").status_code == 500
    good = client.get("/data", params=WHO)
    assert good.json()["batch_number"] == 0
    assert faulty("repeat").content == good.content
    truncated = faulty("truncated")
    assert truncated.status_code == 200
    assert not truncated.text.endswith("}")
    assert "precio" in faulty("schema").json()["data"][0]
    assert faulty("timeout").json()["batch_number"] == 3
    assert client.get("/data", params=WHO).json()["batch_number"] == 4


def test_faults_are_disabled_by_default(start: Callable[..., TestClient]) -> None:
    assert start(ADMIN_ENABLED="false").post("/admin/faults", json={"kind": "error"}).status_code == 404


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"batch {shape.number}")
def test_synthetic_batch_has_the_shape_of_the_real_one(shape: object) -> None:
    frame, _ = synthetic.generate(shape.number, seed=7, scale=0.05)  # type: ignore[attr-defined]
    expected = SHAPES[shape.number]  # type: ignore[attr-defined]
    assert frame.height == round(expected.rows * 0.05)
    assert set(frame["status"].unique()) == set(expected.statuses)
    assert set(frame["state"].unique()) <= set(expected.states)
    clean = frame.filter(pl.col("price") >= 1_000)
    assert clean["price"].is_between(*expected.price).all()
    assert frame.height - clean.height == round(expected.dirty_prices * 0.05)
    assert frame.null_count().sum_horizontal().item() == 0


def test_synthetic_price_is_noise_free_price_times_known_noise() -> None:
    frame, floor = synthetic.generate(2, seed=7, scale=0.2)
    relative = floor.mae / frame["price"].mean()  # type: ignore[operator]
    assert 0.6 * synthetic.NOISE < relative < 1.0 * synthetic.NOISE


def test_drawn_columns_of_recordings_do_not_depend_on_the_price() -> None:
    rng = np.random.default_rng(3)
    rows = {name: rng.random(500) for name in recorded.REAL_COLUMNS}
    numeric = pl.DataFrame(rows)
    other = numeric.with_columns(price=pl.col("price").reverse())
    drawn = list(recorded.DRAWN_COLUMNS)
    assert recorded._complete(numeric, 0, 1).select(drawn).equals(recorded._complete(other, 0, 1).select(drawn))


def test_unknown_batch_is_refused_with_the_available_ones() -> None:
    from datasource.settings import DatasourceSettings
    from datasource.source import Source

    with pytest.raises(ValueError, match=r"BATCHES names \[9\], but the synthetic batches are \[0, 1, 2, 3, 4, 5\]"):
        Source(DatasourceSettings(batches="0,9", house_recording_dir=""))


def test_metrics_are_not_in_the_global_registry(start: Callable[..., TestClient]) -> None:
    client = start()
    client.get("/data", params=WHO)
    text = client.get("/metrics").text
    assert 'http_requests_total{handler="/data",method="GET",status="2xx"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert b'handler="/data"' not in generate_latest(REGISTRY), "the global registry belongs to another application"
