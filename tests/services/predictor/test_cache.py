"""Bundles on disk: what a new process serves while MLflow is away, shared by the pods of a node."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from core.errors import RegistryError
from core.registry import ModelVersion
from predictor import cache
from predictor.cache import KEPT, BundleCache
from predictor.champion import ChampionFollower
from predictor.trial import check

from .conftest import NAME, Model, Registry


def following(registry: Registry, directory: Path) -> ChampionFollower:
    return ChampionFollower(registry, NAME, "champion", directory, 1, check)  # type: ignore[arg-type]


def serving(follower: ChampionFollower) -> str | None:
    return follower.state.served.version.version if follower.state.served else None


def age(directory: Path) -> None:
    """As if everything there were old."""
    for path in directory.iterdir():
        os.utime(path, (0, 0))


def bundles(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_new_process_serves_what_another_served_last_with_the_registry_away(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    one = following(registry, tmp_path / "cache")
    for model in models:
        registry.add(model)
        one.refresh()
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


def test_unusable_bundle_makes_way_for_a_new_download_and_is_no_refusal(
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
    assert serving(third) == "1", "the new download took its place"


def test_unusable_newest_bundle_leaves_the_one_before(
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


def test_old_bundles_go_and_those_that_served_last_stay(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    follower = following(registry, tmp_path)
    (tmp_path / ".draft-of-a-process-that-was-killed").mkdir()
    (tmp_path / ".predictions").mkdir()  # that wait for the database
    for at in range(KEPT + 3):
        registry.add(models[at % 2])
        follower.refresh()
    assert len([name for name in bundles(tmp_path) if not name.startswith(".")]) == KEPT + 3, "another may load them"
    age(tmp_path)
    registry.add(models[0])
    follower.refresh()
    kept = [str(KEPT + 4 - back) for back in range(KEPT)]
    assert sorted(name.partition("-")[0] for name in bundles(tmp_path)) == sorted([*kept, ".predictions"])


def test_followers_on_one_folder_move_together_and_leave_it_whole(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once, with every bundle old at birth: each removes what it may while others read."""
    monkeypatch.setattr(cache, "OLD_SECONDS", -1)
    followers = [following(registry, tmp_path) for _ in range(4)]
    outcomes: list[str] = []
    for at in range(8):
        registry.add(models[at % 2])
        together = threading.Barrier(len(followers))

        def look(follower: ChampionFollower, together: threading.Barrier = together) -> None:
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
def test_unreadable_record_is_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "served.json").write_text(content)
    assert BundleCache(tmp_path).served() == []


def test_no_name_of_the_registry_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside-").mkdir()
    version = ModelVersion(NAME, "../outside", "run", {"manifest_sha256": ""}, "")
    assert BundleCache(folder).find(version) is None


def test_record_holds_versions_as_the_registry_told_them(tmp_path: Path) -> None:
    store = BundleCache(tmp_path)
    versions = [ModelVersion(NAME, str(at), "run", {"manifest_sha256": "ab" * 32}, "source") for at in range(KEPT + 1)]
    for version in versions:
        store.note_served(version)
    assert store.served() == versions[:0:-1]
    assert len(json.loads((tmp_path / "served.json").read_text())) == KEPT
