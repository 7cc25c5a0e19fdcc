"""The kind cluster: its configuration, and the cases in which it refuses to change anything."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from ci.cluster import kind, requirements, settings
from ci.cluster.configuration import configuration
from ci.cluster.docker import Docker
from ci.cluster.findings import findings
from ci.cluster.kind import Kind
from ci.cluster.record import CREATING
from ci.cluster.registryless import engine_folders, engine_network, engine_package, kernel_settings
from ci.cluster.registryless.control_groups import CGROUP
from ci.common.console import Failure, run
from ci.common.paths import CHECKOUT

ENGINE = Docker(own=False)


class Machine:
    """A machine whose `docker` and `kind` log their arguments and answer from files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls"
        self.log.write_text("")
        answers = (
            'case "$*" in\n'
            '"ps -a"*) cat "$DIR/nodes" ;;\n"ps -q"*) cat "$DIR/running" ;;\n"inspect"*) cat "$DIR/id" ;;\n'
            '"info --format"*) echo "$DIR" ;;\n'
            "esac\n"
        )
        for name, text in (("docker", answers), ("kind", "")):
            program = folder / name
            program.write_text(f'#!/bin/sh\nDIR={folder}\necho "{name} $*" >> "$DIR/calls"\n{text}')
            program.chmod(0o755)
        self.set(nodes="", running="", id="")

    def set(self, **files: str) -> None:
        """Set the answers of docker."""
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def calls(self, start: str) -> list[str]:
        """Logged calls that begin with `start`."""
        return [line for line in self.log.read_text().splitlines() if line.startswith(start)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has a Docker engine and no cluster."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NODE_IMAGE", "example/node:1")
    for name in ("DOCKER_HOST", "NODES", "CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    return Machine(tmp_path)


def record(folder: Path, container: str) -> None:
    """Write the record of a cluster that `up` created."""
    (folder / "state").mkdir(exist_ok=True)
    content = {"container": container, "image": "example/node:1", "own_engine": False}
    (folder / "state" / "cluster.json").write_text(json.dumps(content))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_configuration_has_one_control_plane_and_the_requested_number_of_nodes(count: int) -> None:
    document = yaml.safe_load(configuration(count, ENGINE))
    roles = [node["role"] for node in document["nodes"]]
    assert roles == ["control-plane", *["worker"] * (count - 1)]
    assert document["networking"]["podSubnet"] == settings.POD_CIDR
    assert document["networking"]["serviceSubnet"] == settings.SERVICE_CIDR
    assert document["networking"]["apiServerAddress"] == "127.0.0.1"


def test_address_ranges_do_not_overlap() -> None:
    texts = (settings.POD_CIDR, settings.SERVICE_CIDR, engine_network.CONTAINERS, engine_network.LINK)
    networks = [IPv4Network(text) for text in texts]
    for number, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[number + 1 :])
    assert IPv4Address(settings.API_SERVICE) == IPv4Network(settings.SERVICE_CIDR)[1]
    assert {IPv4Address(engine_network.MACHINE_ADDRESS), IPv4Address(engine_network.ENGINE_ADDRESS)} == set(
        IPv4Network(engine_network.LINK).hosts()
    )


@pytest.mark.parametrize("text", ["0", "ten", "-1", "12"])
def test_an_invalid_number_of_nodes_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", text)
    with pytest.raises(Failure, match=f"NODES={text} is not a number from 1 to 9"):
        settings.wanted_nodes()


def test_a_cluster_of_the_same_name_that_up_did_not_create_is_not_touched(machine: Machine) -> None:
    machine.set(nodes=settings.CONTROL_PLANE)
    for verb in (Kind().up, Kind().down):
        with pytest.raises(Failure, match="`make cluster` did not create: `kind delete cluster --name house`"):
            verb()
    assert machine.calls("kind create") == machine.calls("kind delete") == []


def test_a_cluster_whose_control_plane_was_replaced_is_not_touched(machine: Machine, tmp_path: Path) -> None:
    record(tmp_path, "ours")
    machine.set(nodes=settings.CONTROL_PLANE, id="another")
    with pytest.raises(Failure, match="its control plane was replaced"):
        Kind().up()


def test_up_after_an_interrupted_creation_deletes_the_cluster_and_begins_again(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, CREATING)
    monkeypatch.setattr(kind, "check_room", lambda _: (_ for _ in ()).throw(Failure("the creation began")))
    with pytest.raises(Failure, match="the creation began"):
        Kind().up()
    assert machine.calls("kind delete cluster --name house")


def test_a_different_number_of_nodes_for_an_existing_cluster_is_refused(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "ours")
    machine.set(nodes=settings.CONTROL_PLANE, running="1", id="ours")
    monkeypatch.setenv("NODES", "3")
    with pytest.raises(Failure, match="the cluster has 1 nodes and NODES=3 asks for 3: `make cluster-down`"):
        Kind().up()


@pytest.mark.parametrize(("memory", "disk", "message"), [(1.0, 50e9, "memory: 1.0 GB"), (16.0, 2e9, "disk: 2 GB free")])
def test_too_little_memory_or_disk_is_refused_before_the_creation(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, memory: float, disk: float, message: str
) -> None:
    monkeypatch.setattr(requirements, "available_memory_gb", lambda: memory)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": disk})())
    with pytest.raises(Failure, match=message):
        Kind().up()
    assert machine.calls("kind create") == []


def test_the_findings_name_the_reason_why_a_cluster_cannot_be_created_or_started(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worst() -> tuple[str, str, str]:
        return min(findings(), key=lambda finding: ["fail", "warn", "ok"].index(finding[0]))

    assert worst()[0] == "ok"
    monkeypatch.setattr(requirements, "available_memory_gb", lambda: 1.0)
    assert "too little room" in worst()[1]
    machine.set(nodes=settings.CONTROL_PLANE)
    assert "`make cluster` did not create" in worst()[1]
    record(tmp_path, CREATING)
    assert worst() == ("warn", "the creation of the cluster was interrupted", "make cluster begins it again")
    record(tmp_path, "ours")
    assert "not the one that `make cluster` created" in worst()[1]
    machine.set(id="ours")
    assert worst() == ("fail", "0 of 1 nodes run", "make cluster-start")
    machine.set(running="1")
    assert worst()[0] == "ok"


def test_the_official_node_image_is_the_default_of_the_compiled_kind() -> None:
    module = json.loads(run(["go", "mod", "download", "-json", "sigs.k8s.io/kind"], cwd=settings.KIND_MODULE).stdout)
    source = (Path(module["Dir"]) / "pkg/apis/config/defaults/image.go").read_text()
    assert settings.OFFICIAL_IMAGE in source


def test_the_readme_names_everything_that_the_cluster_changes_on_the_machine() -> None:
    readme = (CHECKOUT / "ci" / "cluster" / "README.md").read_text()
    facts = [*engine_package.PACKAGES, *kernel_settings.SYSCTLS, engine_network.NAMESPACE, engine_network.INTERFACE,
             engine_network.NFT_TABLE, CGROUP, engine_network.CONTAINERS, engine_network.LINK,
             str(engine_folders.RUN), settings.POD_CIDR, settings.SERVICE_CIDR,
             "HOUSE_STATE_DIR", "HOUSE_CACHE_DIR", "NODE_IMAGE", "NODES"]  # fmt: skip
    missing = [fact for fact in facts if fact not in readme]
    assert not missing, f"ci/cluster/README.md does not name {missing}"
