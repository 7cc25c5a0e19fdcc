"""The service answers with the registry's champion or with the last good model, and always with a complete one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from core.errors import RegistryError
from predictor.pricing.price import Pricing
from predictor.serving.follower import AliasFollower
from predictor.serving.loader import BundleLoader
from predictor.serving.loading_test import run_loading_test
from tests.kit.small_models import Model

from .conftest import NAME, Registry, trusted

LISTING = b'{"house_size": 1500, "state": "Alaska", "city": "City 1", "bed": 3}'
Damage = Callable[[Path], object]


@pytest.fixture
def follower(registry: Registry, tmp_path: Path) -> AliasFollower:
    return following(registry, tmp_path / "bundles")


def following(registry: Registry, directory: Path, test: Callable[[Path], None] = run_loading_test) -> AliasFollower:
    directory.mkdir(exist_ok=True)
    loader = BundleLoader(registry, directory, trusted, test)  # type: ignore[arg-type]
    return AliasFollower(registry, NAME, "champion", loader, 0.01)  # type: ignore[arg-type]


def serving(follower: AliasFollower) -> str | None:
    return follower.state.model.version.version if follower.state.model else None


def test_problem_without_a_champion_says_what_to_do(follower: AliasFollower) -> None:
    follower.refresh()
    assert serving(follower) is None
    assert follower.state.problem == "no version of house-price has the alias champion: run the pipeline"
    assert not follower.state.stale


def test_follows_the_alias(follower: AliasFollower, registry: Registry, models: tuple[Model, Model]) -> None:
    registry.add(models[0])
    follower.refresh()
    assert serving(follower) == "1"
    registry.add(models[1])
    follower.refresh()
    assert serving(follower) == "2"
    assert follower.state.problem is None
    assert REGISTRY.get_sample_value("house_model_info", {"name": NAME, "version": "2", "run_id": "run-2"}) == 1
    assert REGISTRY.get_sample_value("house_model_info", {"name": NAME, "version": "1", "run_id": "run-1"}) is None
    registry.named = "1"
    follower.refresh()
    assert serving(follower) == "1"
    follower.refresh()
    assert registry.downloads == ["1", "2"], "a version that served recently is not downloaded again"


def test_garbage_collector_skips_the_served_model(
    follower: AliasFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    """A collection that visits the model takes as long as hundreds of prices and can delay an answer."""
    registry.add(models[0])
    gc.unfreeze()
    try:
        follower.refresh()
        served = follower.state.model
        assert served is not None
        collected = {id(each) for each in gc.get_objects()}
        assert id(served.bundle.__dict__) not in collected
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_model_stays_and_is_stale_while_the_registry_is_away(
    follower: AliasFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    follower.refresh()
    registry.broken = RegistryError("MLflow did not answer")
    follower.refresh()
    assert serving(follower) == "1"
    assert follower.state.stale
    assert "MLflow did not answer" in str(follower.state.problem)
    registry.broken = None
    follower.refresh()
    assert not follower.state.stale


def test_model_stays_when_the_alias_is_deleted(
    follower: AliasFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    follower.refresh()
    registry.named = None
    follower.refresh()
    assert serving(follower) == "1"
    assert follower.state.stale


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.txt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.txt").write_bytes(content)


def test_refused_version_is_tried_again_when_the_alias_is_set_again(
    damaged: Callable[[Damage], Model],
    follower: AliasFollower,
    registry: Registry,
    models: tuple[Model, Model],
) -> None:
    registry.add(models[0])
    bad = registry.add(damaged(lambda folder: (folder / "model.txt").unlink()))
    follower.refresh()
    registry.folders[bad] = models[1].folder  # fixed
    follower.refresh()
    assert serving(follower) is None
    registry.named = "1"
    follower.refresh()
    registry.named = bad
    follower.refresh()
    assert serving(follower) == bad
    assert follower.state.refused == ()


def test_failed_download_does_not_refuse_the_version(
    follower: AliasFollower, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    for failure in (RegistryError("cut off"), OSError("No space left on device")):
        registry.broken_download = failure
        follower.refresh()
        assert serving(follower) is None
        assert str(failure) in str(follower.state.problem)
        assert list((tmp_path / "bundles").iterdir()) == [], "a failed download leaves no files"
    registry.broken_download = None
    follower.refresh()
    assert serving(follower) == "1"
    assert follower.state.refused == ()


def test_restarted_process_serves_without_the_registry(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    following(registry, tmp_path / "bundles").refresh()
    registry.broken = RegistryError("MLflow did not answer")
    restarted = following(registry, tmp_path / "bundles")
    restarted.resume()
    restarted.refresh()
    assert serving(restarted) == "1"
    assert restarted.state.stale
    registry.broken = None
    restarted.refresh()
    assert not restarted.state.stale
    assert registry.downloads == ["1"]


def test_damaged_bundle_on_disk_is_not_served(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    registry.add(models[0])
    following(registry, tmp_path / "bundles").refresh()
    (directory,) = (tmp_path / "bundles").glob("1-*")
    flip(directory)
    restarted = following(registry, tmp_path / "bundles")
    restarted.resume()
    assert serving(restarted) is None
    restarted.refresh()
    assert serving(restarted) == "1"


def test_thread_survives_unexpected_errors(
    follower: AliasFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    follower.refresh()
    registry.broken = ZeroDivisionError("a bug")
    follower.refresh()
    assert serving(follower) == "1"
    assert "a bug" in str(follower.state.problem)


def test_every_answer_comes_from_one_model(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    """While the alias moves back and forth, version and price of each answer belong together."""
    follower = following(registry, tmp_path / "bundles", test=lambda _: None)
    for model in models:
        registry.add(model)
        follower.refresh()
    pricing = Pricing(follower, 10, 10)
    expected = {}
    for version in ("1", "2"):
        registry.named = version
        follower.refresh()
        expected[version] = pricing.answer(LISTING, "r")["price"]
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            registry.named = "1" if registry.named == "2" else "2"
            follower.refresh()

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(2000):
            answer = pricing.answer(LISTING, "r")
            assert answer["price"] == expected[answer["model_version"]]
            seen.add(answer["model_version"])
    finally:
        ended.set()
        swapper.join()
    assert seen == {"1", "2"}
