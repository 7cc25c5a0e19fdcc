"""The one-node cluster's configuration fits together, without a cluster."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from ci.cluster import build, configs, kinds, onenode, settings
from ci.cluster.configs import Component

MTU = 1400


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and images have a name, whether or not they were built here."""
    monkeypatch.setattr(build, "program", lambda name: Path("/programs", name))
    monkeypatch.setattr(build, "image_name", lambda short: f"localhost/house-cluster/{short}:1")
    monkeypatch.setattr(build, "recipes", lambda: dict.fromkeys(IMAGES))


IMAGES = ("pause", "coredns", "metrics-server", "local-path-provisioner", "probe")


def told(component: Component) -> str:
    """All that a program is told: its command line and the files it reads that are ours to write."""
    written = configs.files(MTU)
    return "\n".join([*component.command, *(written.get(file, "") for file in component.reads)])


@pytest.mark.parametrize("name", settings.PORTS)
def test_every_port_that_is_checked_to_be_free_is_the_one_its_program_is_told(name: str) -> None:
    component = next(one for one in configs.components() if one.name == name)
    for port in settings.PORTS[name]:
        assert str(port) in told(component), f"{name} is not told to listen on {port}"


def test_no_two_programs_share_a_port() -> None:
    counted = Counter(port for ports in settings.PORTS.values() for port in ports)
    assert [port for port, times in counted.items() if times > 1] == []


def test_programs_are_stopped_and_shown_by_the_names_they_start_with() -> None:
    assert tuple(one.name for one in configs.components()) == onenode.COMPONENTS
    assert set(settings.PORTS) < set(onenode.COMPONENTS)


def test_a_program_that_reads_a_file_of_ours_is_started_anew_when_the_file_changes() -> None:
    for component in configs.components():
        for file in configs.files(MTU):
            if any(str(file) in word for word in component.command):
                assert file in component.reads, f"{component.name} is told of {file} and not restarted for it"


def test_networks_do_not_overlap_and_hold_their_addresses() -> None:
    pods, services = IPv4Network(settings.POD_CIDR), IPv4Network(settings.SERVICE_CIDR)
    assert not pods.overlaps(services)
    assert IPv4Network(settings.NODE_POD_CIDR).subnet_of(pods)
    assert IPv4Address(settings.NODE_ADDRESS) not in pods
    assert IPv4Address(settings.NODE_ADDRESS) not in services
    assert IPv4Address(settings.API_SERVICE) == services[1], "the API server takes the first address for its Service"
    assert IPv4Address(settings.DNS_SERVICE) in services


def test_kind_has_the_networks_of_the_one_node_cluster() -> None:
    networking = yaml.safe_load(kinds.kind_config())["networking"]
    assert networking == {"podSubnet": settings.POD_CIDR, "serviceSubnet": settings.SERVICE_CIDR}


def test_every_file_is_what_its_reader_parses() -> None:
    for file, text in configs.files(MTU).items():
        if file.suffix == ".toml":
            assert tomllib.loads(text)["version"] == 2
        elif file.suffix == ".yaml":
            assert yaml.safe_load(text)["kind"], file
        elif file.suffix == ".conflist":
            assert json.loads(text)["name"] == "house"


def test_no_pod_starts_without_the_policy_enforcer() -> None:
    plugins = json.loads(configs.cni_conflist(MTU))["plugins"]
    assert plugins[-1] == {"type": "house-netpol", "socket": str(settings.NETPOL_SOCKET)}
    assert f"--socket={settings.NETPOL_SOCKET}" in configs.netpold().command, "they do not meet"
    assert plugins[0]["mtu"] == MTU


def test_the_api_server_listens_on_the_bridge_alone() -> None:
    words = configs.apiserver().command
    assert f"--bind-address={settings.NODE_ADDRESS}" in words
    assert f"--secure-port={settings.API_PORT}" in words


@pytest.mark.parametrize("name", onenode.ADD_ONS)
@pytest.mark.parametrize("external_dns", [True, False])
def test_a_manifest_is_filled_in_and_holds_the_deployment_that_is_awaited(name: str, external_dns: bool) -> None:
    text = configs.manifest(name, external_dns)
    assert "@" not in text, "a placeholder is left"
    found = [one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment"]
    assert [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in found] == [onenode.ADD_ONS[name]]


def test_dns_forwards_only_where_there_is_a_server_to_forward_to() -> None:
    assert "forward . /etc/resolv.conf" in configs.manifest("coredns", True)
    assert "forward ." not in configs.manifest("coredns", False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", ["192.0.2.1", "192.0.2.2"]),
        ("search example.org\n# nameserver 192.0.2.9\n nameserver 192.0.2.1 # comment\n", ["192.0.2.1"]),
        ("nameserver 127.0.0.53\nnameserver ::1\nnameserver 2001:db8::1\n", []),
        ("", []),
    ],
)
def test_only_name_servers_that_a_pod_reaches_are_forwarded_to(
    text: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    monkeypatch.setattr(configs, "HOST_RESOLVERS", (tmp_path / "absent", file))
    assert configs.nameservers() == expected
    assert configs.resolv_conf() == "".join(f"nameserver {server}\n" for server in expected)
