"""No bundle of the corpus changes an answer, ends the process or is tried twice; each is refused with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from core.booster import Booster
from core.errors import BundleError
from predictor.champion import ChampionFollower
from predictor.pricing import Pricing
from predictor.trial import CPU_MARGIN, check, run_trial

from .conftest import NAME, Model, Registry
from .damaged import Damage, corpus, damaged

LISTING = b'{"house_size": 1500, "state": "Alaska", "city": "City 1", "bed": 3}'
MAX_BYTES = 2**20
CORPUS = corpus(huge_bytes=MAX_BYTES + 1)


@dataclasses.dataclass
class Serving:
    """A follower that serves a good version, and its registry."""

    registry: Registry
    trial: Callable[[Path], None]
    follower: ChampionFollower = dataclasses.field(init=False)

    def price(self) -> object:
        return Pricing(self.follower, 10, 10).answer(LISTING, "r")


@pytest.fixture(scope="module")
def serving(models: tuple[Model, Model], tmp_path_factory: pytest.TempPathFactory) -> Serving:
    found = Serving(Registry(), check)
    found.follower = ChampionFollower(
        found.registry,  # type: ignore[arg-type]
        NAME,
        "champion",
        tmp_path_factory.mktemp("bundles"),
        1,
        lambda directory: found.trial(directory),
        MAX_BYTES,
    )
    found.registry.add(models[0])
    found.follower.refresh()
    return found


def refusals(version: str) -> float:
    return REGISTRY.get_sample_value("house_model_versions_refused_total", {"version": version}) or 0


def test_corpus_is_large_and_every_name_is_one() -> None:
    assert len({damage.name for damage in CORPUS}) == len(CORPUS) >= 60


def test_corpus_is_the_same_each_time(models: tuple[Model, Model], tmp_path: Path) -> None:
    def files(damage: Damage, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in damaged(damage, models[1].folder, folder).folder.iterdir()}

    for at, damage in enumerate(CORPUS):
        assert files(damage, tmp_path / f"{at}-1") == files(damage, tmp_path / f"{at}-2"), damage.name


@pytest.mark.parametrize("damage", CORPUS, ids=[damage.name for damage in CORPUS])
def test_bundle_is_refused_once_with_its_reason_and_no_answer_changes(
    damage: Damage, serving: Serving, models: tuple[Model, Model], tmp_path: Path
) -> None:
    registry, follower = serving.registry, serving.follower
    # what a sha256 tells is found before LightGBM reads a word: that needs no process, which takes most of a second
    serving.trial = partial(run_trial, seconds=5) if damage.registered else check
    before = serving.price()
    bad = damaged(damage, models[1].folder, tmp_path / "bundle")
    version = registry.add(dataclasses.replace(models[1], folder=bad.folder, sha256=bad.manifest_sha256))
    counted = refusals(version)
    registry.downloads.clear()
    assert [follower.refresh() for _ in range(3)] == ["refused"] * 3
    assert serving.price() == before
    assert registry.downloads == [version], "a refused version is tried once"
    refusal = follower.state.refused[-1]
    assert (refusal.version, bool(refusal.reason)) == (version, True)
    assert follower.state.problem == f"version {version} is refused: {refusal.reason}"
    assert refusals(version) == counted + 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metadata.json: foreign features", "trained with features 91bc91bc91bc91bc"),
        ("golden.json: prices a little off", "golden listing 0 is priced"),
        ("golden.json: ranges of another model", "golden listing 0 has a range to"),
        ("ranges.json: no groups", "malformed"),
        ("golden.json: no listings", "0 golden listings"),
        ("golden.json: infinite prices", "golden.json holds inf"),
        ("encodings.json: no number", "encodings.json holds nan"),
        ("model.txt: one leaf that is no number", "a leaf of the model adds nan"),
        ("model.txt: one feature more", "features, this program builds"),
        ("model.txt: three prices for each house", "gives 3 values for each row"),
        ("model.txt: a tree that never ends", "did not end within 2 s"),
        ("model.txt: a tree with children that do not exist", "crashed the trial process (signal"),
    ],
)
def test_reason_says_what_is_wrong(name: str, words: str, models: tuple[Model, Model], tmp_path: Path) -> None:
    damage = next(damage for damage in CORPUS if damage.name == name)
    with pytest.raises(BundleError) as refused:
        run_trial(damaged(damage, models[1].folder, tmp_path / "bundle").folder, seconds=2)
    assert words in str(refused.value)


def test_model_that_prices_a_listing_alone_otherwise_is_refused(
    models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(models[0].folder)
    right = Booster.predict_one
    monkeypatch.setattr(Booster, "predict_one", lambda *arguments: right(*arguments) + 1e-12)
    with pytest.raises(BundleError, match=r"golden listing 0 gives .* alone and .* among others"):
        check(models[0].folder)


def test_bundle_that_takes_too_much_memory_is_refused(models: tuple[Model, Model], tmp_path: Path) -> None:
    large = damaged(corpus(huge_bytes=2**26)[-4], models[1].folder, tmp_path / "bundle")
    with pytest.raises(BundleError, match="more than 16,777,216 bytes of memory"):
        run_trial(large.folder, memory_bytes=2**24)


def test_trial_that_hangs_is_ended(models: tuple[Model, Model]) -> None:
    with pytest.raises(BundleError, match="did not end within 0 s"):
        run_trial(models[0].folder, seconds=0.01)


def test_trial_waits_for_the_service_and_is_ended_first(
    models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child says what it is bounded by, in place of its check."""
    program = tmp_path / "sitecustomize.py"
    program.write_text(
        "import atexit, os, pathlib, resource, sys\n"
        "told = lambda: pathlib.Path(os.environ['TOLD']).write_text(repr((os.nice(0),"
        " pathlib.Path('/proc/self/oom_score_adj').read_text().strip(),"
        " resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_CORE)[0])))\n"
        "atexit.register(told)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    run_trial(models[0].folder, seconds=30)
    niceness, oom, cpu, core = eval((tmp_path / "told").read_text())  # noqa: S307 - written above
    assert niceness >= 10
    assert oom in ("1000", "0"), "0: this sandbox does not let a process say so"
    assert (cpu, core) == (30 + CPU_MARGIN, 0), "the kernel ends it only if nobody else did"


def test_refusal_outlives_the_process(models: tuple[Model, Model], tmp_path: Path) -> None:
    registry = Registry()

    def process() -> ChampionFollower:
        follower = ChampionFollower(registry, NAME, "champion", tmp_path / "cache", 1)  # type: ignore[arg-type]
        follower.resume()
        return follower

    lost = damaged(next(d for d in CORPUS if d.name == "model.txt: lost"), models[0].folder, tmp_path / "bundle")
    registry.add(dataclasses.replace(models[0], folder=lost.folder))
    first = process()
    assert first.refresh() == "refused"
    again = process()
    assert again.refresh() == "refused"
    assert again.state.refused == first.state.refused
    assert registry.downloads == ["1"]
    assert again.refresh(again=True) == "refused", "asked to, it tries once more"
    assert registry.downloads == ["1", "1"]
    registry.folders["1"] = models[0].folder  # mended
    assert again.refresh(again=True) == "loaded"
    assert process().state.refused == ()
