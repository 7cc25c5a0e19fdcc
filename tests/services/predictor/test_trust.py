"""A model that MLflow names serves only if the ledger has its hash. The model in service goes on answering."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from prometheus_client import REGISTRY

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from core.errors import LedgerAwayError, RegistryError
from core.stores.registry import ModelVersion
from predictor.serving.follower import AliasFollower
from predictor.serving.loader import BundleLoader
from predictor.serving.trust import UntrustedError
from tests.kit.damaged_bundles import Damaged
from tests.kit.promotions import Registrar, confirmed, counted, refusal
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger, trust_as_champion

from .conftest import NAME, Registry


@dataclass
class Hashes:
    """A ledger in memory."""

    champions: set[tuple[str, str]] = field(default_factory=set)
    away: bool = False

    def check(self, version: ModelVersion) -> None:
        if self.away:
            raise LedgerAwayError("the ledger's database failed: connection refused")
        if (version.version, version.manifest_sha256) not in self.champions:
            raise UntrustedError("the ledger has no promotion of it")


@pytest.fixture
def hashes() -> Hashes:
    return Hashes()


@pytest.fixture
def follow(registry: Registry, hashes: Hashes, tmp_path: Path) -> Callable[[], AliasFollower]:
    """Makes a follower, like a new process on the same disk."""

    def follow() -> AliasFollower:
        loader = BundleLoader(registry, tmp_path, hashes.check, lambda _: None)  # type: ignore[arg-type]
        follower = AliasFollower(registry, NAME, "champion", loader, 1)  # type: ignore[arg-type]
        follower.resume()
        return follower

    return follow


def serving(follower: AliasFollower) -> str | None:
    return follower.state.model.version.version if follower.state.model else None


def refusals(version: str) -> float:
    return REGISTRY.get_sample_value("house_model_versions_refused_total", {"version": version}) or 0


def test_unknown_version_is_refused_until_the_ledger_has_its_hash(
    follow: Callable[[], AliasFollower], registry: Registry, hashes: Hashes, models: tuple[Model, Model]
) -> None:
    hashes.champions.add((registry.add(models[0]), models[0].sha256))
    follower = follow()
    assert follower.refresh() == "loaded"
    foreign = registry.add(models[1])
    before = refusals(foreign)
    assert [follower.refresh() for _ in range(3)] == ["refused"] * 3
    assert serving(follower) == "1"
    assert follower.state.problem == f"version {foreign} is refused: the ledger has no promotion of it"
    assert [each.version for each in follower.state.refused] == [foreign]
    assert refusals(foreign) == before + 1, "counted once, although each poll checks again"
    assert registry.downloads == ["1"], "nothing of a foreign version is downloaded"
    assert follow().refresh() == "refused", "a restarted process refuses it, too"
    hashes.champions.add((foreign, models[1].sha256))
    assert follower.refresh() == "loaded"
    assert (serving(follower), follower.state.refused) == (foreign, ())


def test_running_process_keeps_its_model_while_the_ledger_is_away(
    follow: Callable[[], AliasFollower], registry: Registry, hashes: Hashes, models: tuple[Model, Model]
) -> None:
    hashes.champions |= {("1", models[0].sha256), ("2", models[1].sha256)}
    registry.add(models[0])
    follower = follow()
    follower.refresh()
    registry.add(models[1])
    hashes.away = True
    assert follower.refresh() == "unreachable"
    assert (serving(follower), follower.state.stale, follower.state.refused) == ("1", True, ())
    assert "cannot read the champion from the ledger: the ledger's database failed" in str(follower.state.problem)
    hashes.away = False
    assert follower.refresh() == "loaded"
    assert serving(follower) == "2"


def test_starting_process_serves_the_checked_model_on_its_disk_and_no_new_one_while_the_ledger_is_away(
    follow: Callable[[], AliasFollower], registry: Registry, hashes: Hashes, models: tuple[Model, Model]
) -> None:
    hashes.champions.add((registry.add(models[0]), models[0].sha256))
    follow().refresh()
    hashes.away = True
    restarted = follow()
    assert (serving(restarted), restarted.refresh()) == ("1", "current")
    registry.add(models[1])
    assert (restarted.refresh(), serving(restarted)) == ("unreachable", "1")
    registry.broken = RegistryError("MLflow did not answer")
    assert (restarted.refresh(), serving(restarted)) == ("unreachable", "1")


def test_bundle_in_the_disk_cache_needs_the_ledger_when_the_alias_names_it(
    follow: Callable[[], AliasFollower], registry: Registry, hashes: Hashes, models: tuple[Model, Model]
) -> None:
    hashes.champions |= {("1", models[0].sha256), ("2", models[1].sha256)}
    follower = follow()
    for model in models:
        registry.add(model)
        follower.refresh()
    hashes.champions.clear()
    registry.named = "1"
    assert (follower.refresh(), serving(follower)) == ("refused", "2")


@pytest.mark.services
@pytest.mark.timeout(900)
def test_swapped_bundle_with_matching_tags_is_refused(
    tracking: LocalPlatform, models: tuple[Model, Model], tmp_path: Path
) -> None:
    """An attacker in MLflow registers a version of its own, and then swaps files and tag of a former champion."""
    name, dsn = "house-price-trust", new_ledger(tracking, "predictor-trust")
    client = MlflowClient(tracking.mlflow_url)
    client.create_registered_model(name)
    registrar = Registrar(tracking.mlflow_url, name, "champion", partial(trust_as_champion, dsn))
    good = registrar.register(Damaged("good", models[0].folder, models[0].sha256))
    registrar.promote(good)

    def start(folder: str) -> str:
        return tracking.start_predictor(
            model_name=name,
            ledger_dsn=dsn,
            bundle_dir=str(tmp_path / folder),
            prediction_log_dir=str(tmp_path / "predictions"),
        )

    def price(url: str) -> object:
        body = httpx.post(f"{url}/predict", json=models[0].bundle.golden_listings, timeout=10).json()
        return body.get("prices"), body.get("model_version")

    try:
        url = start("bundles")
        wait_for("a model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 60)
        assert price(url) == (models[0].bundle.golden_prices, good)

        attacker = Registrar(tracking.mlflow_url, name, "champion")
        foreign = attacker.register(Damaged("foreign", models[1].folder, models[1].sha256))
        attacker.promote(foreign)
        wait_for("the refusal", partial(refusal, url, foreign), 60)
        assert "the ledger has no promotion or rollback to version" in str(refusal(url, foreign))
        assert counted(url, foreign) == 1
        assert price(url) == (models[0].bundle.golden_prices, good)

        trust_as_champion(dsn, foreign, models[1].sha256)  # the promotion's transaction commits after the alias moves
        wait_for("the new champion", lambda: confirmed(url, foreign), 60)

        run_id = str(client.get_model_version(name, good).run_id)
        artifacts = tracking.folder / "artifacts"
        stored = next(folder for folder in artifacts.rglob("data/bundle") if run_id in folder.parts)
        shutil.rmtree(stored)
        shutil.copytree(models[1].folder, stored)
        client.set_model_version_tag(name, good, "manifest_sha256", models[1].sha256)
        registrar.promote(good)
        wait_for("the refusal of the swapped files", partial(refusal, url, good), 60)
        assert price(url) == (models[1].bundle.golden_prices, foreign)

        tracking.stop("predictor")
        url = start("an-empty-disk")
        wait_for("an answer", lambda: "is refused" in httpx.get(f"{url}/health/ready").text, 60)
        assert httpx.get(f"{url}/health/ready").status_code == 503
    finally:
        tracking.stop("predictor")
