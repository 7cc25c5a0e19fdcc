"""No damaged bundle changes an answer, ends the process or is tried twice. Each is refused with a reason."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import re
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from core.errors import BundleError
from core.model.booster import Booster
from predictor.pricing.price import Pricing
from predictor.serving.follower import AliasFollower
from predictor.serving.loader import BundleLoader
from predictor.serving.loading_test import CPU_MARGIN, check, run_loading_test
from predictor.settings import PredictorSettings
from tests.kit.damaged_bundles import Damage, corpus, damaged
from tests.kit.small_models import Model

from .conftest import NAME, Registry, trusted

LISTING = b'{"house_size": 1500, "state": "Alaska", "city": "City 1", "bed": 3}'
MAX_BYTES = 2**20
CORPUS = corpus(huge_bytes=MAX_BYTES + 1)


@dataclasses.dataclass
class Serving:
    """A follower that serves a good version, and its registry."""

    registry: Registry
    test: Callable[[Path], None]
    follower: AliasFollower = dataclasses.field(init=False)

    def price(self) -> object:
        return Pricing(self.follower, 10, 10).answer(LISTING, "r")


@pytest.fixture(scope="module")
def serving(models: tuple[Model, Model], tmp_path_factory: pytest.TempPathFactory) -> Serving:
    serving = Serving(Registry(), check)
    registry: Any = serving.registry
    folder = tmp_path_factory.mktemp("bundles")
    loader = BundleLoader(registry, folder, trusted, lambda directory: serving.test(directory), MAX_BYTES)
    serving.follower = AliasFollower(registry, NAME, "champion", loader, 1)
    serving.registry.add(models[0])
    serving.follower.refresh()
    return serving


def refusals(version: str) -> float:
    return REGISTRY.get_sample_value("house_model_versions_refused_total", {"version": version}) or 0


def test_corpus_is_large_and_names_are_unique_listing() -> None:
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
    # wrong sha256 sums are noticed before LightGBM reads anything, so they need no child process, which is slow
    serving.test = partial(run_loading_test, seconds=5) if damage.registered else check
    before = serving.price()
    bad = damaged(damage, models[1].folder, tmp_path / "bundle")
    version = registry.add(dataclasses.replace(models[1], folder=bad.folder, sha256=bad.manifest_sha256))
    counted = refusals(version)
    registry.downloads.clear()
    assert [follower.refresh() for _ in range(3)] == ["refused"] * 3
    assert serving.price() == before
    assert registry.downloads == [version], "a refused version is tried only once"
    refusal = follower.state.refused[-1]
    assert (refusal.version, bool(refusal.reason)) == (version, True)
    assert follower.state.problem == f"version {version} is refused: {refusal.reason}"
    assert refusals(version) == counted + 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metadata.json: features of another program", "trained with features 91bc91bc91bc91bc"),
        ("golden.json: slightly different prices", "golden listing 0: the price is"),
        ("golden.json: intervals of another model", "golden listing 0: the high end of the interval is"),
        ("ranges.json: no groups", "malformed"),
        ("golden.json: no listings", "0 golden listings"),
        ("golden.json: infinite prices", "golden.json holds inf"),
        ("encodings.json: not a number", "encodings.json holds nan"),
        ("model.txt: one leaf that is not a number", "a leaf of the model adds nan"),
        ("model.txt: one feature more", "features, this program builds"),
        ("model.txt: three prices for each house", "gives 3 values for each row"),
        ("model.txt: a tree that never ends", "did not end within 2 s"),
        # reads memory that does not belong to the model, so it ends in either way
        (
            "model.txt: a tree with children that do not exist",
            r"crashed the test process|did not end within 60 s",
        ),
    ],
)
def test_reason_names_the_damage(name: str, words: str, models: tuple[Model, Model], tmp_path: Path) -> None:
    damage = next(damage for damage in CORPUS if damage.name == name)
    seconds = 2 if words.endswith("within 2 s") else 60  # a busy machine needs more than 2 s for any other damage
    with pytest.raises(BundleError) as refused:
        run_loading_test(damaged(damage, models[1].folder, tmp_path / "bundle").folder, seconds=seconds)
    assert re.search(words, str(refused.value))


def test_model_that_prices_a_single_listing_differently_is_refused(
    models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(models[0].folder)
    original = Booster.predict_one
    monkeypatch.setattr(Booster, "predict_one", lambda *arguments: original(*arguments) + 1e-12)
    with pytest.raises(BundleError, match=r"golden listing 0 has .* alone and .* among others"):
        check(models[0].folder)


def test_bundle_that_needs_too_much_memory_is_refused(models: tuple[Model, Model], tmp_path: Path) -> None:
    large = damaged(corpus(huge_bytes=2**26)[-4], models[1].folder, tmp_path / "bundle")
    with pytest.raises(BundleError, match="more than 16,777,216 bytes of memory"):
        run_loading_test(large.folder, memory_bytes=2**24)


def test_loading_test_that_hangs_is_ended(models: tuple[Model, Model]) -> None:
    with pytest.raises(BundleError, match="did not end within 0 s"):
        run_loading_test(models[0].folder, seconds=0.01)


@pytest.fixture
def at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Gives a function that makes the child evaluate an expression when it ends, and reads the result."""

    def at_exit(expression: str) -> Any:
        (tmp_path / "sitecustomize.py").write_text(
            "import atexit, os, pathlib, resource, socket\n"
            f"result = os.open({str(tmp_path / 'result')!r}, os.O_CREAT | os.O_WRONLY)\n"
            "def attempt(act):\n"
            "    try:\n"
            "        act()\n"
            "    except OSError as error:\n"
            "        return error.errno\n"
            f"atexit.register(lambda: os.write(result, repr({expression}).encode()))\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        return lambda: eval((tmp_path / "result").read_text())  # noqa: S307 - the program above wrote it

    return at_exit


def test_loading_test_has_a_low_priority_and_is_ended_first(
    models: tuple[Model, Model], at_exit: Callable[[str], Any]
) -> None:
    result = at_exit(
        "(os.nice(0), pathlib.Path('/proc/self/oom_score_adj').read_text().strip(),"
        " resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    run_loading_test(models[0].folder, seconds=30)
    niceness, oom, cpu, core = result()
    assert niceness >= 10
    assert oom in ("1000", "0"), "0: this sandbox does not let a process set it"
    assert (cpu, core) == (30 + CPU_MARGIN, 0), "the CPU limit is only a backstop"


def test_loading_test_gets_no_secret(
    models: tuple[Model, Model], at_exit: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PredictorSettings.model_fields:
        monkeypatch.setenv(name.upper(), "a secret or not")
    monkeypatch.setenv("ANOTHER_SECRET", "a secret")
    result = at_exit("dict(os.environ)")
    run_loading_test(models[0].folder, seconds=60)
    environment = result()
    assert "PATH" in environment
    needed = {"PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_ALL"}
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"}
    own = {"_RJEM_MALLOC_CONF"}  # Polars sets it in each process
    assert environment.keys() & os.environ.keys() <= needed | threads | own
    assert not [name for name, value in environment.items() if "a secret" in value]


def test_loading_test_reaches_neither_the_network_nor_the_service(
    models: tuple[Model, Model], at_exit: Callable[[str], Any]
) -> None:
    """As far as the kernel has Landlock."""
    abi = max(0, ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))  # version of Landlock; 4 knows TCP
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = at_exit(
            f"(attempt(lambda: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))),"
            " attempt(lambda: open(f'/proc/{os.getppid()}/environ').read()),"
            " attempt(lambda: os.execv('/bin/true', ['true'])))"
            if abi
            else "(None, None, None)"
        )
        run_loading_test(models[0].folder, seconds=60)
    network, environment, program = result()
    assert network == (errno.EACCES if abi >= 4 else None)
    assert program == (errno.EACCES if abi else None)
    if os.geteuid():  # root may read every process from Linux 6.13 on
        assert environment == (errno.EACCES if abi else None)


def test_refusal_survives_a_restart(models: tuple[Model, Model], tmp_path: Path) -> None:
    registry = Registry()

    def process() -> AliasFollower:
        loader = BundleLoader(registry, tmp_path / "cache", trusted)  # type: ignore[arg-type]
        follower = AliasFollower(registry, NAME, "champion", loader, 1)  # type: ignore[arg-type]
        follower.resume()
        return follower

    lost = damaged(next(d for d in CORPUS if d.name == "model.txt: missing"), models[0].folder, tmp_path / "bundle")
    registry.add(dataclasses.replace(models[0], folder=lost.folder))
    first = process()
    assert first.refresh() == "refused"
    again = process()
    assert again.refresh() == "refused"
    assert again.state.refused == first.state.refused
    assert registry.downloads == ["1"]
    assert again.refresh(again=True) == "refused", "it tries again because the test asks for it"
    assert registry.downloads == ["1", "1"]
    registry.folders["1"] = models[0].folder  # fixed
    assert again.refresh(again=True) == "loaded"
    assert process().state.refused == ()
