"""`make up`: cluster and images side by side, then one step after another, and the seconds of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from ci.common.console import Failure
from ci.deploy import up
from ci.deploy.parallel import Program


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps in their order; the steps themselves are stubs."""
    done: list[str] = []

    def note(text: str, result: object = None) -> Callable[..., object]:
        return lambda *_, **__: (done.append(text), result)[1]

    def together(programs: Sequence[Program], settings: Mapping[str, str]) -> dict[str, float]:
        done.append(" with ".join(" ".join(one.words) for one in programs))
        assert settings == {"HOUSE_GO_CACHE_IN_USE": "1"}, "one would empty the cache that the other compiles with"
        return {one.name: 30.0 for one in programs}

    @contextmanager
    def airflow():  # type: ignore[no-untyped-def]
        yield None

    monkeypatch.setattr(up, "together", together)
    monkeypatch.setattr(up, "stream", lambda *words: done.append(" ".join(words)))
    monkeypatch.setattr(up, "trim_go_cache", note("trim Go's cache"))
    monkeypatch.setattr(up, "has_model", lambda: False)
    monkeypatch.setattr(up, "predict", note("predict", {"price": 1.0}))
    monkeypatch.setattr(up, "runs", SimpleNamespace(airflow=airflow, run_once=note("run")))
    monkeypatch.setattr(up, "platform", SimpleNamespace(install=note("install", True)))
    monkeypatch.setattr(up, "workloads", SimpleNamespace(wait_ready=note("wait")))
    monkeypatch.setattr(up, "pages", SimpleNamespace(show=note("pages")))
    return done


CLUSTER, BUILD, LOAD = "-m ci.cluster up", "-m ci.images build --env kind", "-m ci.images load --env kind"
REST = ["install", "wait", "run", "predict", "pages"]


def test_images_are_built_while_the_cluster_is_brought_up(steps: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    up.up("kind", cluster=True, images=True, extra=[])
    assert steps == [f"{CLUSTER} with {BUILD}", "trim Go's cache", LOAD, *REST]
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"seconds per step: cluster 30 and build images 30 in parallel, load images \d+, install \d+, components \d+, "
        r"pipeline run \d+, prediction \d+; \d+ in all",
        last,
    )


def test_building_creates_no_cluster(steps: list[str]) -> None:
    up.build("kind")
    assert steps == [f"-m ci.cluster build with {BUILD}", "trim Go's cache"]


def test_sequential(steps: list[str]) -> None:
    up.up("kind", cluster=True, images=True, extra=[], parallel=False)
    assert steps == [CLUSTER, f"{BUILD} --jobs 1", LOAD, *REST]


@pytest.mark.parametrize(
    ("cluster", "images", "expected"),
    [(False, True, [BUILD, LOAD]), (True, False, [CLUSTER]), (False, False, [])],
)
def test_what_is_left_out_is_not_done(steps: list[str], cluster: bool, images: bool, expected: list[str]) -> None:
    up.up("kind", cluster=cluster, images=images, extra=[])
    assert steps == [*expected, *REST]


def test_a_cluster_that_fails_ends_it(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def together(*_: object) -> dict[str, float]:
        raise Failure("cluster: no memory")

    monkeypatch.setattr(up, "together", together)
    with pytest.raises(Failure, match="no memory"):
        up.up("kind", cluster=True, images=True, extra=[])
    assert steps == []
