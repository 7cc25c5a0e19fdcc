"""The choice of the cluster and of the Docker engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.cluster import docker
from ci.cluster.choice import choose
from ci.cluster.registryless import engine
from ci.cluster.registryless.engine_folders import SOCKET
from ci.common.console import Failure


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH and no cluster; returns the only folder of its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return programs


def put(folder: Path, **programs: int) -> None:
    """Write programs that exit with these codes."""
    for name, code in programs.items():
        (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("setting", ["", "kind"])
def test_kind_is_the_default(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", setting)
    assert choose().name == "kind"


@pytest.mark.parametrize("name", ["kind", "current"])
def test_the_environment_chooses_the_cluster_and_an_argument_overrides_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTER", name)
    assert choose().name == name
    monkeypatch.setenv("CLUSTER", "current" if name != "current" else "kind")
    assert choose(name).name == name


def test_an_unknown_kind_of_cluster_is_refused_with_the_known_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "minikube")
    with pytest.raises(Failure, match=r"'minikube': CLUSTER \(or --kind\) is one of kind, current"):
        choose()


@pytest.mark.parametrize(
    ("programs", "own"),
    [({}, True), ({"docker": 1}, True), ({"docker": 0}, False)],
    ids=["no docker", "docker without an engine", "an engine answers"],
)
def test_the_engine_of_the_machine_is_used_if_it_answers(programs: dict[str, int], own: bool, machine: Path) -> None:
    put(machine, **programs)
    assert docker.choose().own is own


def test_the_engine_from_packages_is_recognised_if_docker_host_names_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machine, docker=0)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{SOCKET}")
    assert docker.choose().own


def test_without_root_and_without_an_engine_the_message_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Failure, match=r"start Docker .*, or run this as root, or use .* CLUSTER=current"):
        engine.require_root()


@pytest.mark.parametrize("verb", ["stop", "down"])
def test_the_current_cluster_is_neither_stopped_nor_removed(verb: str) -> None:
    with pytest.raises(Failure, match="somebody else's cluster"):
        getattr(choose("current"), verb)()


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_without_a_cluster_there_is_nothing_to_stop_or_start(verb: str) -> None:
    with pytest.raises(Failure, match="there is no kind cluster of this platform"):
        getattr(choose("kind"), verb)()


def test_importing_images_into_the_current_cluster_is_refused_with_the_alternatives() -> None:
    with pytest.raises(Failure, match=r"ui\.tar cannot be imported .* push the images to a registry"):
        choose("current").import_archives([Path("ui.tar")])


@pytest.mark.parametrize(("name", "remedy"), [("current", "install it, or use CLUSTER=kind"), ("kind", "make cluster")])
def test_without_kubectl_the_message_names_the_remedy(name: str, remedy: str) -> None:
    with pytest.raises(Failure, match=f"kubectl is not installed: .*{remedy}"):
        choose(name).kubectl()
