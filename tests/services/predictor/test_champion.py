"""The model that answers is the registry's champion, or the last good one, and never half of one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from core.errors import BundleError, RegistryError
from predictor.champion import ChampionFollower
from predictor.pricing import Pricing
from predictor.trial import run_trial

from .conftest import NAME, Model, Registry

LISTING = b'{"house_size": 1500, "state": "Alaska", "city": "City 1", "bed": 3}'
Damage = Callable[[Path], object]


@pytest.fixture
def follower(registry: Registry, tmp_path: Path) -> ChampionFollower:
    return following(registry, tmp_path / "bundles")


def following(registry: Registry, directory: Path, trial: Callable[[Path], None] = run_trial) -> ChampionFollower:
    directory.mkdir(exist_ok=True)
    return ChampionFollower(registry, NAME, "champion", directory, 0.01, trial)  # type: ignore[arg-type]


def serving(follower: ChampionFollower) -> str | None:
    return follower.state.served.version.version if follower.state.served else None


def test_without_a_champion_the_reason_is_told(follower: ChampionFollower) -> None:
    follower.refresh()
    assert serving(follower) is None
    assert follower.state.problem == "no version of house-price has the alias champion: run the pipeline"
    assert not follower.state.stale


def test_follows_the_alias(follower: ChampionFollower, registry: Registry, models: tuple[Model, Model]) -> None:
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
    assert registry.downloads == ["1", "2", "1"], "a version that is served is not fetched again"


def test_only_the_served_bundle_stays_on_disk(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    for model in (*models, *models):
        registry.add(model)
        follower.refresh()
    assert [path.name[:2] for path in (tmp_path / "bundles").iterdir() if path.is_dir()] == ["4-"]


def test_registry_away_keeps_the_model_and_says_stale(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model]
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


def test_alias_taken_away_keeps_the_model(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    follower.refresh()
    registry.named = None
    follower.refresh()
    assert serving(follower) == "1"
    assert follower.state.stale


def rewrite_manifest(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    manifest = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.txt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.txt").write_bytes(content)


def change_json(name: str, **changes: object) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
        rewrite_manifest(folder)

    return damage


DAMAGES: dict[str, Damage] = {
    "truncated model": lambda folder: (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes()[:1000]),
    "flipped bit": flip,
    "empty model": lambda folder: (folder / "model.txt").write_bytes(b""),
    "model is a page": lambda folder: (folder / "model.txt").write_text("<html>502 Bad Gateway</html>"),
    "manifest is a page": lambda folder: (folder / "manifest.json").write_text("<html>502 Bad Gateway</html>"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no model": lambda folder: (folder / "model.txt").unlink(),
    "another manifest": rewrite_manifest,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_bundle_is_refused_once_and_the_model_stays(
    damage: Damage,
    damaged: Callable[[Damage], Model],
    follower: ChampionFollower,
    registry: Registry,
    models: tuple[Model, Model],
    tmp_path: Path,
) -> None:
    registry.add(models[0])
    follower.refresh()
    before = Pricing(follower, 10, 10).answer(LISTING, "r")
    registry.add(damaged(damage))
    for _ in range(3):
        follower.refresh()
    assert Pricing(follower, 10, 10).answer(LISTING, "r") == before
    assert registry.downloads == ["1", "2"], "a refused version is not tried again in a loop"
    assert [refusal.version for refusal in follower.state.refused] == ["2"]
    assert follower.state.refused[0].reason
    assert "version 2 is refused" in str(follower.state.problem)
    assert not list((tmp_path / "bundles").glob("2-*")), "nothing of a refused bundle stays on disk"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_json("metadata.json", fingerprint="91bc"), "trained with features 91bc"),
        (change_json("golden.json", prices=[1.0] * 13), "golden listing 0 is priced"),
        (change_json("golden.json", high=[1.0] * 13), "golden listing 0 has a range to"),
        (change_json("encodings.json", tables=5), "malformed"),
        (change_json("ranges.json", groups=[]), "malformed"),
    ],
    ids=["foreign features", "other prices", "other ranges", "malformed encodings", "malformed ranges"],
)
def test_bundle_that_is_whole_but_wrong_is_refused_with_its_reason(
    damage: Damage, words: str, damaged: Callable[[Damage], Model], follower: ChampionFollower, registry: Registry
) -> None:
    model = damaged(damage)
    registry.add(model, manifest_sha256=hashlib.sha256((model.folder / "manifest.json").read_bytes()).hexdigest())
    follower.refresh()
    assert serving(follower) is None
    assert words in follower.state.refused[0].reason


def test_version_without_the_tag_is_refused(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0], manifest_sha256="")
    follower.refresh()
    assert "manifest_sha256" in follower.state.refused[0].reason


def test_model_text_that_kills_its_process_is_refused(
    damaged: Callable[[Damage], Model], registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    """The text's own damage, with every sha256 right, as if it had been trained so."""

    def cut_trees(folder: Path) -> None:
        text = (folder / "model.txt").read_text()
        (folder / "model.txt").write_text(text[: int(len(text) * 0.6)])
        rewrite_manifest(folder)

    model = damaged(cut_trees)
    registry.add(models[0])
    follower = following(registry, tmp_path / "bundles")
    follower.refresh()
    registry.add(model, manifest_sha256=hashlib.sha256((model.folder / "manifest.json").read_bytes()).hexdigest())
    follower.refresh()
    assert serving(follower) == "1"
    assert [refusal.version for refusal in follower.state.refused] == ["2"]


def test_trial_that_hangs_is_ended(models: tuple[Model, Model]) -> None:
    with pytest.raises(BundleError, match="did not end within 0 s"):
        run_trial(models[0].folder, seconds=0.01)


def test_refused_version_is_tried_again_when_the_alias_is_set_anew(
    damaged: Callable[[Damage], Model],
    follower: ChampionFollower,
    registry: Registry,
    models: tuple[Model, Model],
) -> None:
    registry.add(models[0])
    bad = registry.add(damaged(DAMAGES["no model"]))
    follower.refresh()
    registry.folders[bad] = models[1].folder  # repaired
    follower.refresh()
    assert serving(follower) is None
    registry.named = "1"
    follower.refresh()
    registry.named = bad
    follower.refresh()
    assert serving(follower) == bad
    assert follower.state.refused == ()


def test_failed_download_is_no_refusal(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry.add(models[0])
    for failure in (RegistryError("cut off"), OSError("No space left on device")):
        registry.broken_download = failure
        follower.refresh()
        assert serving(follower) is None
        assert str(failure) in str(follower.state.problem)
        assert not list((tmp_path / "bundles").glob("1-*"))
    registry.broken_download = None
    follower.refresh()
    assert serving(follower) == "1"
    assert follower.state.refused == ()


def test_restarted_process_answers_without_the_registry(
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


def test_bundle_damaged_on_disk_is_not_resumed(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    registry.add(models[0])
    following(registry, tmp_path / "bundles").refresh()
    (directory,) = (tmp_path / "bundles").glob("1-*")
    flip(directory)
    restarted = following(registry, tmp_path / "bundles")
    restarted.resume()
    assert serving(restarted) is None
    restarted.refresh()
    assert serving(restarted) == "1"


def test_thread_survives_what_nobody_expected(
    follower: ChampionFollower, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    follower.refresh()
    registry.broken = ZeroDivisionError("a bug")
    follower.refresh()
    assert serving(follower) == "1"
    assert "a bug" in str(follower.state.problem)


def test_every_answer_is_of_one_whole_model(registry: Registry, models: tuple[Model, Model], tmp_path: Path) -> None:
    """While the alias moves to and fro, version and price of an answer always belong together."""
    follower = following(registry, tmp_path / "bundles", trial=lambda _: None)
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
