"""A challenger prices a share of the requests beside the champion, and nothing that it does reaches a caller."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
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
from ci.console import wait_for
from ci.local import LocalPlatform
from core.errors import LedgerError, RegistryError
from core.ledger import Ledger
from core.registry import ModelVersion
from predictor import shadow as module
from predictor.assembly import create_app
from predictor.champion import CHALLENGER, Champion, ChampionFollower, State
from predictor.listing import EXAMPLE
from predictor.pricing import Pricing
from predictor.settings import PredictorSettings
from predictor.shadow import Shadow, sampled

from .conftest import NAME, Model, Registry
from .damaged import Damaged
from .promotions import Registrar
from .test_app import SETTINGS, until

NOWHERE = "postgresql://127.0.0.1:9/ledger"
Predict = Callable[[Any], Any]


def champion(version: str, bundle: Any) -> Champion:
    return Champion(ModelVersion(NAME, version, f"run-{version}", {}, ""), bundle, datetime.now(UTC))


def following(served: Champion | None) -> Any:
    """A follower that stays where it is."""
    return SimpleNamespace(state=State(served, None), alias="challenger", start=lambda: None, stop=lambda: None)


def count(series: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(series, labels) or 0


class Counts:
    """What was counted since this was made."""

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
    """The thread does not rest, and each step writes what it has."""
    for name in ("GATHER_SECONDS", "REST_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(module, name, 0)


class Rows:
    """A ledger that keeps rows, or fails."""

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
        """A shadow whose version 2 prices by a function or with a model's bundle."""
        bundle = predict.bundle if isinstance(predict, Model) else SimpleNamespace(predict=predict)
        made = Shadow(following(champion("2", bundle)), share, NOWHERE)
        made._ledger = rows  # type: ignore[assignment]
        return made

    return make


def drain(shadow: Shadow) -> None:
    """Step until nothing waits."""
    for _ in range(100):
        shadow.step()


def priced(shadow: Shadow | None, model: Model) -> Pricing:
    return Pricing(following(champion("1", model.bundle)), 5000, 10, shadow=shadow)


def offer(shadow: Shadow, number: int, listings: int = 1) -> None:
    shadow.offer(f"r-{number}", "1", [EXAMPLE] * listings, [100_000.0] * listings)


# -- answers


@pytest.mark.parametrize("predict", [None, lambda _: 1 / 0, lambda raw: np.full(raw.height, math.nan)])
def test_answers_are_the_same_to_the_last_bit(
    make: Callable[..., Shadow], models: tuple[Model, Model], predict: Predict | None
) -> None:
    shadow = make(predict or models[1])
    without, beside = priced(None, models[0]), priced(shadow, models[0])
    for body in (EXAMPLE, {}, models[0].bundle.golden_listings, [EXAMPLE] * 100):
        sent = json.dumps(body).encode()
        expected = without.answer(sent, "r")
        assert beside.answer(sent, "r") == expected
        drain(shadow)
        assert beside.answer(sent, "r") == expected


def test_challenger_that_never_ends_holds_up_nobody(
    make: Callable[..., Shadow], models: tuple[Model, Model], counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUED_LISTINGS", 10)
    begun, end = threading.Event(), threading.Event()

    def predict(raw: Any) -> Any:
        begun.set()
        end.wait()
        return np.full(raw.height, 1.0)

    shadow = make(predict)
    pricing = priced(shadow, models[0])
    shadow.start()
    try:
        pricing.answer(json.dumps(EXAMPLE).encode(), "first")
        assert begun.wait(20)
        for number in range(100):
            assert pricing.answer(json.dumps(EXAMPLE).encode(), f"r-{number}")["price"] > 0
        assert counts.new == {"dropped": 90}, "ten wait, and the one in its hands"
    finally:
        end.set()
        shadow.stop()


def test_full_queue_drops_and_counts_by_listings(
    make: Callable[..., Shadow], counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUED_LISTINGS", 100)
    shadow = make(lambda raw: np.full(raw.height, 90_000.0))
    for number in range(5):
        offer(shadow, number, 60)
    assert shadow._queue.qsize() == 120, "the bound may be passed by one request"
    assert counts.new == {"dropped": 180}
    drain(shadow)
    assert counts.new == {"dropped": 180, "compared": 120, "written": 120}
    offer(shadow, 9, 60)
    drain(shadow)
    assert counts.new["compared"] == 180, "there is room again"


# -- which requests


def test_sample_is_a_share_and_the_same_every_time() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    for share in (0.01, 0.1, 0.5):
        chosen = [each for each in ids if sampled(each, share)]
        assert abs(len(chosen) / len(ids) - share) < 0.01
        assert chosen == [each for each in ids if sampled(each, share)]
        assert set(chosen) < {each for each in ids if sampled(each, share + 0.1)}, "a larger share adds requests"
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
    shadow.follower.state = State(champion("1", models[0].bundle), None)  # promoted before its turn came
    offer(shadow, 2)
    drain(shadow)
    assert (counts.new, rows.rows) == ({}, [])


# -- what is told


def test_metrics_and_rows_are_those_of_both_models(
    make: Callable[..., Shadow], models: tuple[Model, Model], rows: Rows, counts: Counts
) -> None:
    shadow = make(models[1])
    pricing = priced(shadow, models[0])
    dollars = {who: count("house_shadow_price_dollars_total", model=who) for who in ("champion", "challenger")}
    seen = count("house_shadow_difference_ratio_count"), count("house_shadow_difference_ratio_sum")
    one, many = EXAMPLE, models[0].bundle.golden_listings * 5
    answers = [pricing.answer(json.dumps(body).encode(), each) for each, body in (("one", one), ("many", many))]
    drain(shadow)
    ours, theirs = priced(None, models[0]), priced(None, models[1])
    told = [
        (request_id, position, "1", before, "2", after)
        for request_id, body in (("one", [one]), ("many", many))
        for position, (before, after) in enumerate(
            zip(*(each.answer(json.dumps(body).encode(), "r")["prices"] for each in (ours, theirs)), strict=True)
        )
    ]
    assert [row[1:] for row in rows.rows] == told
    assert [row[4] for row in rows.rows] == [answers[0]["price"], *answers[1]["prices"]]
    assert all(row[0].tzinfo for row in rows.rows)
    assert counts.new == {"compared": len(told), "written": len(told)}
    for at, who in ((3, "champion"), (5, "challenger")):
        grown = count("house_shadow_price_dollars_total", model=who) - dollars[who]
        assert grown == pytest.approx(sum(row[at] for row in told))
    assert count("house_shadow_difference_ratio_count") - seen[0] == len(told)
    differences = sum(abs(row[5] / row[3] - 1) for row in told)
    assert count("house_shadow_difference_ratio_sum") - seen[1] == pytest.approx(differences)
    assert shadow.problem is None


@pytest.mark.parametrize(
    ("predict", "failed", "words"),
    [
        (lambda _: 1 / 0, 6, "version 2 does not price: ZeroDivisionError"),
        (
            lambda raw: np.array([math.nan, math.inf, -1.0, 0.0, 5.0, 5.0][: raw.height]),
            4,
            "something else than prices",
        ),
    ],
)
def test_challenger_that_fails_is_counted_and_told(
    make: Callable[..., Shadow], models: tuple[Model, Model], counts: Counts, predict: Predict, failed: int, words: str
) -> None:
    shadow = make(predict)
    offer(shadow, 1, 6)
    drain(shadow)
    assert counts.new["failed"] == failed
    assert words in str(shadow.problem)
    shadow.follower.state = State(champion("3", models[1].bundle), None)
    offer(shadow, 2)
    drain(shadow)
    assert shadow.problem is None, "a better one came"


def test_rows_of_a_ledger_that_is_away_are_lost_and_counted(
    make: Callable[..., Shadow], rows: Rows, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_ROWS", 50)
    shadow = make(lambda raw: np.full(raw.height, 90_000.0))
    rows.broken = True
    offer(shadow, 1, 20)
    drain(shadow)
    assert counts.new == {"compared": 20, "lost": 20}
    rows.broken = False
    offer(shadow, 2, 70)
    drain(shadow)  # not asked again at once
    assert counts.new == {"compared": 90, "lost": 40}
    assert rows.rows == []
    shadow._write_at = 0
    shadow.step()
    assert counts.new == {"compared": 90, "lost": 40, "written": 50}
    assert [row[2] for row in rows.rows] == list(range(20, 70)), "the oldest were lost"


def test_rows_are_written_at_the_end(make: Callable[..., Shadow], rows: Rows, counts: Counts) -> None:
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
def challenger(registry: Registry, tmp_path: Path) -> ChampionFollower:
    return challenging(registry, tmp_path / "bundles" / "challenger")


def challenging(registry: Registry, directory: Path) -> ChampionFollower:
    trial = lambda _: None  # noqa: E731 - trials have tests of their own
    return ChampionFollower(registry, NAME, "challenger", directory, 0.01, trial, role=CHALLENGER)  # type: ignore[arg-type]


def test_challenger_goes_with_its_alias_and_with_a_bad_version(
    challenger: ChampionFollower,
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
        assert challenger.state.served is None
        assert REGISTRY.get_sample_value("house_challenger_info", info) is None
    assert [refusal.version for refusal in challenger.state.refused] == ["3"]


def test_challenger_stays_while_the_registry_is_away_and_is_not_resumed(
    challenger: ChampionFollower, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    registry.challenger = "1"
    challenger.refresh()
    registry.broken = RegistryError("MLflow did not answer")
    assert challenger.refresh() == "unreachable"
    assert challenger.state.served is not None
    new = challenging(registry, tmp_path / "bundles" / "challenger")
    new.resume()
    assert new.state.served is None, "nobody knows whether it is still to be compared"
    registry.broken = None
    assert new.refresh() == "loaded"
    assert registry.downloads == ["1"], "it was on disk"


def test_alias_of_the_champion_is_refused() -> None:
    with pytest.raises(ValidationError, match="it is the alias of the version that serves"):
        PredictorSettings(**{**SETTINGS.model_dump(), "shadow_alias": "champion"})


# -- the service


@pytest.fixture
def serve(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[float], TestClient]]:
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_trial", lambda *_, **__: None)
    clients: list[TestClient] = []

    def serve(share: float) -> TestClient:
        settings = SETTINGS.model_copy(update={"bundle_dir": tmp_path / "bundles", "shadow_share": share})
        clients.append(TestClient(create_app(settings), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def test_off_there_is_no_thread_no_look_and_nothing_in_model(
    serve: Callable[[float], TestClient], registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    looks = count("house_challenger_refresh_total", outcome="absent")
    client = serve(0)
    until(lambda: client.get("/health/ready").status_code == 200)
    assert client.get("/model").json()["shadow"] is None
    assert not {"shadow", "challenger"} & {thread.name for thread in threading.enumerate()}
    assert count("house_challenger_refresh_total", outcome="absent") == looks


def test_service_compares_tells_and_is_moved_by_the_champion_alone(
    serve: Callable[[float], TestClient],
    registry: Registry,
    models: tuple[Model, Model],
    damaged: Callable[[Callable[[Path], object]], Model],
    counts: Counts,
) -> None:
    registry.add(models[1], alias="challenger")
    client = serve(1)

    def told() -> Any:
        return client.get("/model").json()["shadow"]

    until(lambda: count("house_challenger_info", name=NAME, version="1", run_id="run-1") == 1)
    assert client.get("/health/ready").status_code == 503, "a challenger makes no pod ready"
    champion = registry.add(models[0])
    until(lambda: client.get("/health/ready").status_code == 200)
    assert told() == {
        "share": 1.0,
        "alias": "challenger",
        "version": "1",
        "run_id": "run-1",
        "loaded_at": told()["loaded_at"],
        "refused": [],
        "problem": None,
    }
    expected = models[0].bundle.golden_prices
    rows = models[0].bundle.golden_listings
    assert client.post("/predict", json=rows).json()["prices"] == expected
    until(lambda: counts.new.get("compared") == len(rows))
    refused = count("house_model_versions_refused_total", version="3")  # the champion's, of all tests in this process
    bad = registry.add(damaged(lambda folder: (folder / "model.txt").write_text("tree")), alias="challenger")
    until(lambda: told()["version"] is None)
    assert [(refusal["version"]) for refusal in told()["refused"]] == [bad]
    assert f"version {bad} is refused" in told()["problem"]
    assert client.get("/health/ready").status_code == 200
    model = client.get("/model").json()
    assert (model["version"], model["refused"], model["stale"], model["problem"]) == (champion, [], False, None)
    assert client.post("/predict", json=rows).json()["prices"] == expected
    registry.challenger = champion
    until(lambda: "is the champion now" in str(told()["problem"]))
    assert (bad, count("house_model_versions_refused_total", version="3")) == ("3", refused)


# -- the process


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path / "local") as local:
        local.start_mlflow()
        yield local


@pytest.mark.services
@pytest.mark.timeout(900)
def test_rows_and_metrics_of_a_real_challenger_and_a_bad_one_harms_nothing(
    platform: LocalPlatform, models: tuple[Model, Model], tmp_path: Path
) -> None:
    MlflowClient(platform.mlflow_url).create_registered_model(NAME)
    serving, beside = (Registrar(platform.mlflow_url, NAME, alias) for alias in ("champion", "challenger"))
    good, other = (serving.register(Damaged("good", model.folder, model.sha256)) for model in models)
    serving.promote(good)
    beside.promote(other)
    Ledger(platform.database("ledger")).ensure_schema()
    url = platform.start_predictor(shadow_share="1")
    wait_for("a challenger", lambda: shadow_of(url).get("version") == other, 60)

    listings = models[0].bundle.golden_listings
    asked = {"X-Request-ID": "golden"}
    answer = httpx.post(f"{url}/predict", json=listings, headers=asked, timeout=10).json()
    assert answer["prices"] == models[0].bundle.golden_prices
    with psycopg.connect(platform.database("ledger")) as connection:
        connection.autocommit = True
        query = "select request_id, position, champion_version, champion_price, challenger_version, challenger_price"
        rows: list[Any] = []

        def written() -> bool:
            rows[:] = connection.execute(f"{query} from ledger.shadow_prices order by position").fetchall()
            return bool(rows)

        wait_for("rows", written, 30)
        pairs = list(zip(answer["prices"], models[1].bundle.golden_prices, strict=True))
        assert rows == [("golden", at, good, ours, other, theirs) for at, (ours, theirs) in enumerate(pairs)]
        [told] = connection.execute(
            "select champion_version, challenger_version, count, mean, mean_absolute from ledger.shadow_differences"
        ).fetchall()
    differences = [theirs / ours - 1 for ours, theirs in pairs]
    assert told[:3] == (good, other, len(listings))
    assert told[3] == pytest.approx(np.mean(differences))
    assert told[4] == pytest.approx(np.mean(np.abs(differences)))
    metrics = httpx.get(f"{url}/metrics", timeout=10).text
    for line in (
        f'house_shadow_listings_total{{outcome="compared"}} {len(listings)}.0',
        f"house_shadow_difference_ratio_count {len(listings)}.0",
        f'house_shadow_rows_total{{outcome="written"}} {len(listings)}.0',
    ):
        assert line in metrics.splitlines()

    shutil.copytree(models[1].folder, tmp_path / "bad")
    (tmp_path / "bad" / "model.txt").write_bytes(b"tree" * 1000)
    bad = beside.register(Damaged("bad", tmp_path / "bad", models[1].sha256))
    beside.promote(bad)
    wait_for("the refusal", lambda: [one["version"] for one in shadow_of(url)["refused"]] == [bad], 60)
    again = httpx.post(f"{url}/predict", json=listings, headers=asked, timeout=10).json()
    assert again == answer
    model = httpx.get(f"{url}/model", timeout=10).json()
    assert (model["version"], model["refused"], model["stale"], model["shadow"]["version"]) == (good, [], False, None)


def shadow_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/model", timeout=10).json().get("shadow") or {}
