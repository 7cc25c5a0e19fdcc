"""Which cluster is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.cluster import kinds
from ci.console import Failure


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on its PATH and without a one-node cluster; returns the only folder of its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CLUSTER", raising=False)
    return programs


def put(folder: Path, **programs: int) -> None:
    """Programs that end with these codes."""
    for name, code in programs.items():
        (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("kind", ["onenode", "kind", "current"])
def test_the_environment_names_it_and_an_argument_wins(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", kind)
    assert kinds.choose().name == kind
    monkeypatch.setenv("CLUSTER", "current" if kind != "current" else "kind")
    assert kinds.choose(kind).name == kind


def test_a_wrong_name_is_refused_with_the_right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "minikube")
    with pytest.raises(Failure, match=r"'minikube': CLUSTER \(or --kind\) is one of auto, onenode, kind, current"):
        kinds.choose()


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({}, "onenode"),
        ({"kind": 0}, "onenode"),
        ({"docker": 0}, "onenode"),
        ({"docker": 1, "kind": 0}, "onenode"),  # the program without an engine
        ({"docker": 0, "kind": 0}, "kind"),
    ],
    ids=str,
)
@pytest.mark.parametrize("setting", ["", "auto"])
def test_kind_is_taken_where_it_and_an_engine_work(
    programs: dict[str, int], expected: str, setting: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTER", setting)
    put(machine, **programs)
    assert kinds.choose().name == expected


def test_a_one_node_cluster_that_exists_wins_over_the_choice_of_kind(tmp_path: Path, machine: Path) -> None:
    put(machine, docker=0, kind=0)
    (tmp_path / "state" / "etcd").mkdir(parents=True)
    assert kinds.choose().name == "onenode"
    assert kinds.choose("kind").name == "kind", "but not over what is asked for"


@pytest.mark.parametrize("verb", ["stop", "down"])
def test_somebody_else_s_cluster_is_neither_stopped_nor_removed(verb: str) -> None:
    with pytest.raises(Failure, match="somebody else's cluster"):
        getattr(kinds.choose("current"), verb)()


def test_images_for_somebody_else_s_cluster_are_refused_with_the_way_to_get_them_in() -> None:
    with pytest.raises(Failure, match=r"ui\.tar cannot be imported .* push the images to a registry"):
        kinds.choose("current").import_archive(Path("ui.tar"))


def test_without_kubectl_it_is_said_how_to_get_one() -> None:
    with pytest.raises(Failure, match="kubectl is not installed: install it, or use CLUSTER=onenode"):
        kinds.choose("current").up()
