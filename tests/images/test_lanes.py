"""Images are built two at a time: one that compiles beside one that does not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci.common.console import Failure
from ci.images import store
from ci.images.catalog import IMAGES, Image

GO = {name for name, image in IMAGES.items() if image.go}


class Bench:
    """Stands in for the builder; notes which images are built at the same time."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.seen: list[frozenset[str]] = []
        self.kept: set[str] | None = None
        self.work: Callable[[str], None] = lambda _: time.sleep(0.02)
        self._lock = threading.Lock()

    def prepare(self) -> str:
        return "base"

    def keep_only(self, tags: set[str]) -> None:
        self.kept = tags

    def build_one(self, _: Any, image: Image, tag: str, __: str, target: Path, ___: str) -> str:
        with self._lock:
            self.now.add(image.name)
            self.seen.append(frozenset(self.now))
        try:
            self.work(image.name)
        finally:
            with self._lock:
                self.now.discard(image.name)
        target.write_text(tag)
        return f"sha256:{image.name}"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(store, "_build_one", made.build_one)
    monkeypatch.setattr(store, "commit_of", lambda _: "abc")
    monkeypatch.setattr(store.packages, "installed", lambda _: {"postgresql-17": "17.1"})
    monkeypatch.setattr(store.sbom, "describe", lambda *_: None)
    return made


def build(bench: Bench, *names: str, jobs: int = 2) -> list[store.Built]:
    return store.build(bench, names or IMAGES, "localhost/x", jobs)  # type: ignore[arg-type]


def test_every_image_is_built_once_and_named_in_the_order_of_the_catalog(bench: Bench) -> None:
    built = build(bench)
    assert [one.name for one in built] == list(IMAGES)
    assert len(bench.seen) == len(IMAGES)
    assert all(one.seconds > 0 and one.digest == f"sha256:{one.name}" for one in built)
    assert [one.packages for one in built if one.packages] == [{"postgresql-17": "17.1"}]
    assert bench.kept is not None, "the storage is tidied after the last image"


def test_two_at_a_time_and_never_two_that_compile(bench: Bench) -> None:
    build(bench)
    assert max(len(now) for now in bench.seen) == 2
    assert max(len(now & GO) for now in bench.seen) == 1


def test_one_at_a_time_if_told(bench: Bench) -> None:
    build(bench, jobs=1)
    assert {len(now) for now in bench.seen} == {1}


def test_what_is_there_is_not_built_again(bench: Bench) -> None:
    build(bench)
    bench.seen.clear()
    assert [one.seconds for one in build(bench)] == [0.0] * len(IMAGES)
    assert bench.seen == []


def test_an_image_of_another_registry_is_built_again(bench: Bench) -> None:
    [one] = build(bench, "ui")
    note = one.file.with_suffix(".json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"registry": "registry.example/house"}))
    assert build(bench, "ui")[0].seconds > 0


def test_a_failure_ends_both_lanes_and_keeps_what_is_built(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    both = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        both.wait()
        if name in GO:
            raise Failure("go build ended with code 1:\nlog")
        time.sleep(0.2)

    bench.work = work
    with pytest.raises(Failure, match=r"^go build ended with code 1:\nlog$"):
        build(bench)
    assert len({name for now in bench.seen for name in now}) == 2, "no other image was begun"
    message = "an image failed: go build ended with code 1:; ending after the other image in progress"
    assert message in capsys.readouterr().out
    assert len(list(store.folder().glob("*.json"))) == 1, "what was built beside it is kept"
    assert bench.kept is None
