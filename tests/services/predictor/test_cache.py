"""Bundles on disk: a new process serves them while MLflow is away, and pods of a node share them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from core.errors import RegistryError
from core.stores.registry import ModelVersion
from predictor.serving import cache
from predictor.serving.cache import KEPT, BundleCache
from predictor.serving.follower import AliasFollower
from predictor.serving.loader import BundleLoader
from predictor.serving.loading_test import check
from tests.kit.small_models import Model

from .conftest import NAME, Registry, trusted


def following(registry: Registry, directory: Path) -> AliasFollower:
    loader = BundleLoader(registry, directory, trusted, check)  # type: ignore[arg-type]
    return AliasFollower(registry, NAME, "champion", loader, 1)  # type: ignore[arg-type]


def serving(follower: AliasFollower) -> str | None:
    return follower.state.model.version.version if follower.state.model else None


def age(directory: Path) -> None:
    """Make everything in the folder old."""
    for path in directory.iterdir():
        os.utime(path, (0, 0))


def bundles(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_new_process_serves_the_last_served_version_while_the_registry_is_away(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    first = following(registry, tmp_path / "cache")
    for model in models:
        registry.add(model)
        first.refresh()
    registry.broken = RegistryError("MLflow did not answer")
    new = following(registry, tmp_path / "cache")
    new.resume()
    assert new.refresh() == "unreachable"
    assert (serving(new), new.state.stale) == ("2", True)


def test_second_process_downloads_nothing(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    registry.add(models[0])
    for _ in range(2):
        follower = following(registry, tmp_path)
        assert follower.refresh() == "loaded"
    assert registry.downloads == ["1"]


def test_rollback_needs_no_download(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    follower = following(registry, tmp_path)
    for model in models:
        registry.add(model)
        follower.refresh()
    registry.broken_download = RegistryError("MinIO is away")
    registry.named = "1"
    assert follower.refresh() == "loaded"
    assert serving(follower) == "1"


def test_damaged_bundle_is_downloaded_again_and_not_refused(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    following(registry, tmp_path).refresh()
    (tmp_path / bundles(tmp_path)[0] / "model.txt").write_bytes(b"")
    new = following(registry, tmp_path)
    new.resume()
    assert serving(new) is None
    assert new.refresh() == "loaded"
    assert new.state.refused == ()
    assert registry.downloads == ["1", "1"]
    third = following(registry, tmp_path)
    third.resume()
    assert serving(third) == "1", "the new download replaced it"


def test_damaged_newest_bundle_falls_back_to_the_previous_one(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    follower = following(registry, tmp_path)
    for model in models:
        registry.add(model)
        follower.refresh()
    newest = next(name for name in bundles(tmp_path) if name.startswith("2-"))
    (tmp_path / newest / "manifest.json").unlink()
    new = following(registry, tmp_path)
    new.resume()
    assert serving(new) == "1"


def test_old_bundles_are_removed_and_the_last_served_ones_stay(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    follower = following(registry, tmp_path)
    (tmp_path / ".draft-of-a-process-that-was-killed").mkdir()
    (tmp_path / ".predictions").mkdir()  # of the prediction log, waiting for the database
    for at in range(KEPT + 3):
        registry.add(models[at % 2])
        follower.refresh()
    assert len([name for name in bundles(tmp_path) if not name.startswith(".")]) == KEPT + 3, (
        "another process may be loading them"
    )
    age(tmp_path)
    registry.add(models[0])
    follower.refresh()
    kept = [str(KEPT + 4 - back) for back in range(KEPT)]
    assert sorted(name.partition("-")[0] for name in bundles(tmp_path)) == sorted([*kept, ".predictions"])


def test_followers_that_share_a_folder_stay_in_step_and_leave_it_intact(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several run at once, and every bundle counts as old, so that each removes bundles while others read."""
    monkeypatch.setattr(cache, "OLD_SECONDS", -1)
    followers = [following(registry, tmp_path) for _ in range(4)]
    outcomes: list[str] = []
    for at in range(8):
        registry.add(models[at % 2])
        together = threading.Barrier(len(followers))

        def look(follower: AliasFollower, together: threading.Barrier = together) -> None:
            together.wait()
            outcomes.append(follower.refresh())

        threads = [threading.Thread(target=look, args=(follower,)) for follower in followers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {serving(follower) for follower in followers} == {str(at + 1)}
    assert set(outcomes) <= {"loaded", "current"}
    assert all(follower.state.refused == () for follower in followers)
    monkeypatch.undo()
    registry.broken = RegistryError("MLflow did not answer")
    new = following(registry, tmp_path)
    new.resume()
    assert serving(new) == "8"


@pytest.mark.parametrize("content", ["", "[", "{}", '[{"name": 1}]', "null"])
def test_unreadable_record_counts_as_empty(content: str, tmp_path: Path) -> None:
    (tmp_path / "served.json").write_text(content)
    assert BundleCache(tmp_path).served() == []


def test_no_version_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside-").mkdir()
    version = ModelVersion(NAME, "../outside", "run", {"manifest_sha256": ""}, "")
    assert BundleCache(folder).find(version) is None


def test_record_has_the_versions_as_the_registry_describes_them(tmp_path: Path) -> None:
    store = BundleCache(tmp_path)
    versions = [ModelVersion(NAME, str(at), "run", {"manifest_sha256": "ab" * 32}, "source") for at in range(KEPT + 1)]
    for version in versions:
        store.add_served(version)
    assert store.served() == versions[:0:-1]
    assert len(json.loads((tmp_path / "served.json").read_text())) == KEPT
