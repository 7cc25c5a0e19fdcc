"""A challenger prices a share of the requests for comparison. It never changes or delays an answer."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from prometheus_client import REGISTRY
from pydantic import ValidationError

import predictor.assembly
from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from core.errors import LedgerError, RegistryError
from core.stores.registry import ModelVersion
from predictor.assembly import create_app
from predictor.pricing.listing import EXAMPLE
from predictor.pricing.price import Pricing
from predictor.record import shadow as shadow_module
from predictor.record.shadow import Shadow, sampled
from predictor.serving.follower import CHALLENGER, AliasFollower, FollowerState
from predictor.serving.loader import BundleLoader, LoadedModel
from predictor.settings import PredictorSettings
from tests.kit.damaged_bundles import Damaged
from tests.kit.promotions import Registrar
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger, trust_as_champion, trust_as_trained

from .conftest import NAME, SETTINGS, Registry, trusted, until

NOWHERE = "postgresql://127.0.0.1:9/ledger"
Predict = Callable[[Any], Any]


def champion(version: str, bundle: Any) -> LoadedModel:
    return LoadedModel(ModelVersion(NAME, version, f"run-{version}", {}, ""), bundle, datetime.now(UTC))


def following(served: LoadedModel | None) -> Any:
    """A follower whose state does not change."""
    return SimpleNamespace(state=FollowerState(served, None), alias="challenger", start=lambda: None, stop=lambda: None)


def count(series: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(series, labels) or 0


class Counts:
    """The increases of counters since this object was created."""

    SERIES: tuple[tuple[str, dict[str, str]], ...] = (
        *(("house_shadow_listings_total", {"outcome": each}) for each in ("compared", "dropped", "failed")),
        *(("house_shadow_rows_total", {"outcome": each}) for each in ("written", "lost")),
    )

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {labels["outcome"]: count(name, **labels) for name, labels in self.SERIES}

    @property
    def new(self) -> dict[str, float]:
        now = self._now()
        return {outcome: now[outcome] - before for outcome, before in self._before.items() if now[outcome] != before}


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread does not rest, and each step writes its rows."""
    for name in ("GATHER_SECONDS", "REST_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(shadow_module, name, 0)


class Rows:
    """A ledger that collects rows, or fails."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.broken = False

    def add_shadow_prices(self, rows: Any) -> None:
        if self.broken:
            raise LedgerError("the ledger's database failed")
        self.rows += rows


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def make(rows: Rows) -> Callable[..., Shadow]:
    def make(predict: Any, share: float = 1) -> Shadow:
        """A shadow whose version 2 prices with a function or a model's bundle."""
        bundle = predict.bundle if isinstance(predict, Model) else SimpleNamespace(predict=predict)
        shadow = Shadow(following(champion("2", bundle)), share, NOWHERE)
        shadow._ledger = rows  # type: ignore[assignment]
        return shadow

    return make


def drain(shadow: Shadow) -> None:
    """Step until the queue is empty."""
    for _ in range(100):
        shadow.step()


def pricing_with(shadow: Shadow | None, model: Model) -> Pricing:
    return Pricing(following(champion("1", model.bundle)), 5000, 10, shadow=shadow)


def offer(shadow: Shadow, number: int, listings: int = 1) -> None:
    shadow.offer(f"r-{number}", "1", [EXAMPLE] * listings, [100_000.0] * listings)


# -- answers


@pytest.mark.parametrize("predict", [None, lambda _: 1 / 0, lambda raw: np.full(raw.height, math.nan)])
def test_answers_are_identical_with_and_without_shadow(
    make: Callable[..., Shadow], models: tuple[Model, Model], predict: Predict | None
) -> None:
    shadow = make(predict or models[1])
    without, with_shadow = pricing_with(None, models[0]), pricing_with(shadow, models[0])
    for body in (EXAMPLE, {}, models[0].bundle.golden_listings, [EXAMPLE] * 100):
        sent = json.dumps(body).encode()
        expected = without.answer(sent, "r")
        assert with_shadow.answer(sent, "r") == expected
        drain(shadow)
        assert with_shadow.answer(sent, "r") == expected


def test_challenger_that_hangs_delays_no_answer(
    make: Callable[..., Shadow], models: tuple[Model, Model], counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "QUEUED_LISTINGS", 10)
    started, release = threading.Event(), threading.Event()

    def predict(raw: Any) -> Any:
        started.set()
        release.wait()
        return np.full(raw.height, 1.0)

    shadow = make(predict)
    pricing = pricing_with(shadow, models[0])
    shadow.start()
    try:
        pricing.answer(json.dumps(EXAMPLE).encode(), "first")
        assert started.wait(20)
        for number in range(100):
            assert pricing.answer(json.dumps(EXAMPLE).encode(), f"r-{number}")["price"] > 0
        assert counts.new == {"dropped": 90}, "ten listings are queued, and one is being priced"
    finally:
        release.set()
        shadow.stop()


def test_full_queue_drops_requests_and_counts_listings(
    make: Callable[..., Shadow], counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "QUEUED_LISTINGS", 100)
    shadow = make(lambda raw: np.full(raw.height, 90_000.0))
    for number in range(5):
        offer(shadow, number, 60)
    assert shadow._queue.qsize() == 120, "one request may exceed the limit"
    assert counts.new == {"dropped": 180}
    drain(shadow)
    assert counts.new == {"dropped": 180, "compared": 120, "written": 120}
    offer(shadow, 9, 60)
    drain(shadow)
    assert counts.new["compared"] == 180, "the queue has room again"


# -- which requests


def test_sample_has_the_right_share_and_is_deterministic() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    for share in (0.01, 0.1, 0.5):
        sample = [each for each in ids if sampled(each, share)]
        assert abs(len(sample) / len(ids) - share) < 0.01
        assert sample == [each for each in ids if sampled(each, share)]
        assert set(sample) < {each for each in ids if sampled(each, share + 0.1)}, "a larger share adds requests"
    assert all(sampled(each, 1) for each in ids)
    assert not any(sampled(each, 0) for each in ids)


def test_only_sampled_requests_are_compared(make: Callable[..., Shadow], rows: Rows) -> None:
    shadow = make(lambda raw: np.full(raw.height, 90_000.0), share=0.2)
    for number in range(500):
        offer(shadow, number)
    drain(shadow)
    assert [row[1] for row in rows.rows] == [f"r-{n}" for n in range(500) if sampled(f"r-{n}", 0.2)]
    assert rows.rows


def test_version_is_not_compared_with_itself(
    make: Callable[..., Shadow], models: tuple[Model, Model], counts: Counts, rows: Rows
) -> None:
    shadow = make(models[0])
    offer(shadow, 1)
    shadow.follower.state = FollowerState(
        champion("1", models[0].bundle), None
    )  # promoted while the request was queued
    offer(shadow, 2)
    drain(shadow)
    assert (counts.new, rows.rows) == ({}, [])


# -- metrics and rows


def test_metrics_and_rows_have_the_prices_of_both_models(
    make: Callable[..., Shadow], models: tuple[Model, Model], rows: Rows, counts: Counts
) -> None:
    shadow = make(models[1])
    pricing = pricing_with(shadow, models[0])
    dollars = {role: count("house_shadow_price_dollars_total", model=role) for role in ("champion", "challenger")}
    before = count("house_shadow_difference_ratio_count"), count("house_shadow_difference_ratio_sum")
    one, many = EXAMPLE, models[0].bundle.golden_listings * 5
    answers = [pricing.answer(json.dumps(body).encode(), each) for each, body in (("one", one), ("many", many))]
    drain(shadow)
    ours, theirs = pricing_with(None, models[0]), pricing_with(None, models[1])
    expected = [
        (request_id, position, "1", our_price, "2", their_price)
        for request_id, body in (("one", [one]), ("many", many))
        for position, (our_price, their_price) in enumerate(
            zip(*(each.answer(json.dumps(body).encode(), "r")["prices"] for each in (ours, theirs)), strict=True)
        )
    ]
    assert [row[1:] for row in rows.rows] == expected
    assert [row[4] for row in rows.rows] == [answers[0]["price"], *answers[1]["prices"]]
    assert all(row[0].tzinfo for row in rows.rows)
    assert counts.new == {"compared": len(expected), "written": len(expected)}
    for column, role in ((3, "champion"), (5, "challenger")):
        increase = count("house_shadow_price_dollars_total", model=role) - dollars[role]
        assert increase == pytest.approx(sum(row[column] for row in expected))
    assert count("house_shadow_difference_ratio_count") - before[0] == len(expected)
    differences = sum(abs(row[5] / row[3] - 1) for row in expected)
    assert count("house_shadow_difference_ratio_sum") - before[1] == pytest.approx(differences)
    assert shadow.problem is None


@pytest.mark.parametrize(
    ("predict", "failed", "message"),
    [
        (lambda _: 1 / 0, 6, "version 2 failed to price listings: ZeroDivisionError"),
        (
            lambda raw: np.array([math.nan, math.inf, -1.0, 0.0, 5.0, 5.0][: raw.height]),
            4,
            "returned prices that are not positive numbers",
        ),
    ],
)
def test_failing_challenger_is_counted_and_reported(
    make: Callable[..., Shadow],
    models: tuple[Model, Model],
    counts: Counts,
    predict: Predict,
    failed: int,
    message: str,
) -> None:
    shadow = make(predict)
    offer(shadow, 1, 6)
    drain(shadow)
    assert counts.new["failed"] == failed
    assert message in str(shadow.problem)
    shadow.follower.state = FollowerState(champion("3", models[1].bundle), None)
    offer(shadow, 2)
    drain(shadow)
    assert shadow.problem is None, "the next version works"


def test_rows_are_lost_and_counted_while_the_ledger_is_away(
    make: Callable[..., Shadow], rows: Rows, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "HELD_ROWS", 50)
    shadow = make(lambda raw: np.full(raw.height, 90_000.0))
    rows.broken = True
    offer(shadow, 1, 20)
    drain(shadow)
    assert counts.new == {"compared": 20, "lost": 20}
    rows.broken = False
    offer(shadow, 2, 70)
    drain(shadow)  # the next attempt is not due yet
    assert counts.new == {"compared": 90, "lost": 40}
    assert rows.rows == []
    shadow._write_at = 0
    shadow.step()
    assert counts.new == {"compared": 90, "lost": 40, "written": 50}
    assert [row[2] for row in rows.rows] == list(range(20, 70)), "the oldest rows were lost"


def test_rows_are_written_at_shutdown(make: Callable[..., Shadow], rows: Rows, counts: Counts) -> None:
    shadow = make(lambda raw: np.full(raw.height, 90_000.0))
    shadow._write_at = math.inf
    shadow.start()
    offer(shadow, 1, 3)
    until(lambda: counts.new.get("compared") == 3)
    assert rows.rows == []
    shadow.stop()
    assert len(rows.rows) == 3


# -- which version


@pytest.fixture
def challenger(registry: Registry, tmp_path: Path) -> AliasFollower:
    return challenging(registry, tmp_path / "bundles" / "challenger")


def challenging(registry: Registry, directory: Path) -> AliasFollower:
    loader = BundleLoader(registry, directory, trusted, lambda _: None)  # type: ignore[arg-type]
    return AliasFollower(registry, NAME, "challenger", loader, 0.01, CHALLENGER)  # type: ignore[arg-type]


def test_challenger_is_dropped_with_its_alias_and_for_a_bad_version(
    challenger: AliasFollower,
    registry: Registry,
    models: tuple[Model, Model],
    damaged: Callable[[Callable[[Path], object]], Model],
) -> None:
    for model in models:
        registry.add(model)
    assert challenger.refresh() == "absent"
    assert "no version of house-price has the alias challenger: see" in str(challenger.state.problem)
    info = {"name": NAME, "version": "2", "run_id": "run-2"}
    for gone in (None, registry.add(damaged(lambda folder: (folder / "model.txt").write_text("tree")))):
        registry.challenger = "2"
        assert challenger.refresh() == "loaded"
        assert REGISTRY.get_sample_value("house_challenger_info", info) == 1
        registry.challenger = gone
        assert challenger.refresh() == ("refused" if gone else "absent")
        assert challenger.state.model is None
        assert REGISTRY.get_sample_value("house_challenger_info", info) is None
    assert [refusal.version for refusal in challenger.state.refused] == ["3"]


def test_challenger_stays_while_the_registry_is_away_but_not_after_a_restart(
    challenger: AliasFollower, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    registry.challenger = "1"
    challenger.refresh()
    registry.broken = RegistryError("MLflow did not answer")
    assert challenger.refresh() == "unreachable"
    assert challenger.state.model is not None
    new = challenging(registry, tmp_path / "bundles" / "challenger")
    new.resume()
    assert new.state.model is None, "the alias may have moved in the meantime"
    registry.broken = None
    assert new.refresh() == "loaded"
    assert registry.downloads == ["1"], "the bundle was on disk"


def test_shadow_alias_must_differ_from_the_champions() -> None:
    with pytest.raises(ValidationError, match="it must differ from the alias of the champion"):
        PredictorSettings(**{**SETTINGS.model_dump(), "shadow_alias": "champion"})


# -- the service


@pytest.fixture
def serve(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[float], TestClient]]:
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)
    clients: list[TestClient] = []

    def serve(share: float) -> TestClient:
        settings = SETTINGS.model_copy(update={"bundle_dir": tmp_path / "bundles", "shadow_share": share})
        clients.append(TestClient(create_app(settings), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def test_shadow_that_is_off_has_no_thread_no_polls_and_no_answer(
    serve: Callable[[float], TestClient], registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    polls = count("house_challenger_refresh_total", outcome="absent")
    client = serve(0)
    until(lambda: client.get("/health/ready").status_code == 200)
    assert client.get("/model").json()["shadow"] is None
    assert not {"shadow", "challenger"} & {thread.name for thread in threading.enumerate()}
    assert count("house_challenger_refresh_total", outcome="absent") == polls


def test_service_compares_and_its_answers_come_from_the_champion_only(
    serve: Callable[[float], TestClient],
    registry: Registry,
    models: tuple[Model, Model],
    damaged: Callable[[Callable[[Path], object]], Model],
    counts: Counts,
) -> None:
    registry.add(models[1], alias="challenger")
    client = serve(1)

    def shadow() -> Any:
        return client.get("/model").json()["shadow"]

    until(lambda: count("house_challenger_info", name=NAME, version="1", run_id="run-1") == 1)
    assert client.get("/health/ready").status_code == 503, "a challenger alone does not make a pod ready"
    champion = registry.add(models[0])
    until(lambda: client.get("/health/ready").status_code == 200)
    assert shadow() == {
        "share": 1.0,
        "alias": "challenger",
        "version": "1",
        "run_id": "run-1",
        "loaded_at": shadow()["loaded_at"],
        "refused": [],
        "problem": None,
    }
    expected = models[0].bundle.golden_prices
    rows = models[0].bundle.golden_listings
    assert client.post("/predict", json=rows).json()["prices"] == expected
    until(lambda: counts.new.get("compared") == len(rows))
    refused = count("house_model_versions_refused_total", version="3")  # by all tests in this process
    bad = registry.add(damaged(lambda folder: (folder / "model.txt").write_text("tree")), alias="challenger")
    until(lambda: shadow()["version"] is None)
    assert [(refusal["version"]) for refusal in shadow()["refused"]] == [bad]
    assert f"version {bad} is refused" in shadow()["problem"]
    assert client.get("/health/ready").status_code == 200
    model = client.get("/model").json()
    assert (model["version"], model["refused"], model["stale"], model["problem"]) == (champion, [], False, None)
    assert client.post("/predict", json=rows).json()["prices"] == expected
    registry.challenger = champion
    until(lambda: "is the champion now" in str(shadow()["problem"]))
    assert (bad, count("house_model_versions_refused_total", version="3")) == ("3", refused)


# -- the process


@pytest.fixture
def platform(tracking: LocalPlatform) -> Iterator[LocalPlatform]:
    yield tracking
    tracking.stop("predictor")


@pytest.mark.services
@pytest.mark.timeout(900)
def test_real_challenger_gives_rows_and_metrics_and_a_bad_one_changes_nothing(
    platform: LocalPlatform, models: tuple[Model, Model], tmp_path: Path
) -> None:
    name, dsn = "house-price-shadow", new_ledger(platform, "shadow")
    MlflowClient(platform.mlflow_url).create_registered_model(name)
    champions = Registrar(platform.mlflow_url, name, "champion", partial(trust_as_champion, dsn))
    challengers = Registrar(platform.mlflow_url, name, "challenger", partial(trust_as_trained, dsn))
    good, other = (
        each.register(Damaged("good", model.folder, model.sha256))
        for each, model in zip((champions, challengers), models, strict=True)
    )
    champions.promote(good)
    challengers.promote(other)
    url = platform.start_predictor(
        shadow_share="1",
        model_name=name,
        ledger_dsn=dsn,
        bundle_dir=str(tmp_path / "bundles"),
        prediction_log_dir=str(tmp_path / "predictions"),
    )
    wait_for("a challenger", lambda: shadow_of(url).get("version") == other, 60)

    listings = models[0].bundle.golden_listings
    headers = {"X-Request-ID": "golden"}
    answer = httpx.post(f"{url}/predict", json=listings, headers=headers, timeout=10).json()
    assert answer["prices"] == models[0].bundle.golden_prices
    with psycopg.connect(dsn) as connection:
        connection.autocommit = True
        query = "select request_id, position, champion_version, champion_price, challenger_version, challenger_price"
        rows: list[Any] = []

        def written() -> bool:
            rows[:] = connection.execute(f"{query} from ledger.shadow_prices order by position").fetchall()
            return bool(rows)

        wait_for("rows", written, 30)
        pairs = list(zip(answer["prices"], models[1].bundle.golden_prices, strict=True))
        assert rows == [("golden", at, good, ours, other, theirs) for at, (ours, theirs) in enumerate(pairs)]
        [differences_row] = connection.execute(
            "select champion_version, challenger_version, count, mean, mean_absolute from ledger.shadow_differences"
        ).fetchall()
    differences = [theirs / ours - 1 for ours, theirs in pairs]
    assert differences_row[:3] == (good, other, len(listings))
    assert differences_row[3] == pytest.approx(np.mean(differences))
    assert differences_row[4] == pytest.approx(np.mean(np.abs(differences)))
    metrics = httpx.get(f"{url}/metrics", timeout=10).text
    for line in (
        f'house_shadow_listings_total{{outcome="compared"}} {len(listings)}.0',
        f"house_shadow_difference_ratio_count {len(listings)}.0",
        f'house_shadow_rows_total{{outcome="written"}} {len(listings)}.0',
    ):
        assert line in metrics.splitlines()

    shutil.copytree(models[1].folder, tmp_path / "bad")
    (tmp_path / "bad" / "model.txt").write_bytes(b"tree" * 1000)
    bad = challengers.register(Damaged("bad", tmp_path / "bad", models[1].sha256))
    challengers.promote(bad)
    wait_for("the refusal", lambda: [each["version"] for each in shadow_of(url)["refused"]] == [bad], 60)
    again = httpx.post(f"{url}/predict", json=listings, headers=headers, timeout=10).json()
    assert again == answer
    model = httpx.get(f"{url}/model", timeout=10).json()
    assert (model["version"], model["refused"], model["stale"], model["shadow"]["version"]) == (good, [], False, None)


def shadow_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/model", timeout=10).json().get("shadow") or {}
