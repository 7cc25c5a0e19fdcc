"""Networks that overlap, names that nobody knows, servers that do not answer."""

from __future__ import annotations

import socket
import ssl
import urllib.error
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from ci.doctor import network
from ci.doctor.requirements import Requirements
from tests.doctor.servers import Answers, answering

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00002D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
cni0\t00002C0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
VM = Requirements("vm", data_api="http://10.43.100.103:8000", data_api_cidr="10.43.100.103/32")
DATA_API = {"the data API": "10.43.100.103"}


@pytest.fixture
def silent() -> Iterator[int]:
    """A port behind which nobody answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def shut() -> int:
    """A port where nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def test_routes_are_those_of_the_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTES)
    assert network.routes(tmp_path) == [("eth0", IPv4Network("10.45.0.0/16"))]


def test_service_network_that_swallows_the_data_api() -> None:
    """K3s's default against the campus network of the original deployment."""
    result = network.cidrs("10.42.0.0/16", "10.43.0.0/16", [], DATA_API, running=False)
    assert result.level == "fail"
    assert result.what == (
        "the data API at 10.43.100.103 lies inside the cluster's service network 10.43.0.0/16: "
        "packets of pods to it never leave the cluster"
    )
    assert result.fix.startswith("install K3s with --cluster-cidr=10.44.0.0/16 --service-cidr=10.45.0.0/16 ")
    assert "cannot be changed" in network.cidrs("10.42.0.0/16", "10.43.0.0/16", [], DATA_API, running=True).fix


def test_pod_network_that_overlaps_a_route() -> None:
    routes = [("eth1", IPv4Network("10.0.0.0/8"))]
    result = network.cidrs("10.44.0.0/16", "172.20.0.0/16", routes, {}, running=False)
    assert (result.level, "pod network 10.44.0.0/16 overlaps the route to 10.0.0.0/8 by eth1" in result.what) == (
        "fail", True,
    )  # fmt: skip


def test_networks_that_are_free() -> None:
    routes = [("eth0", IPv4Network("192.168.1.0/24"))]
    assert network.cidrs("10.44.0.0/16", "10.45.0.0/16", routes, DATA_API, running=False).level == "ok"


@pytest.mark.parametrize(
    ("cidr", "sentence"),
    [("", "global.dataApi.cidr is empty"), ("10.43.100.104/32", "the network policies open 10.43.100.104/32 only")],
)
def test_policy_that_does_not_open_the_data_api(cidr: str, sentence: str) -> None:
    result = network.policy_opening(Requirements("vm", data_api=VM.data_api, data_api_cidr=cidr), "10.43.100.103")
    assert (result.level, sentence in result.what) == ("fail", True)
    assert result.fix == "set global.dataApi.cidr in values/vm.yaml to 10.43.100.103/32"


def test_policy_that_opens_the_data_api() -> None:
    assert network.policy_opening(VM, "10.43.100.103").level == "ok"


def resolv(root: Path, text: str, real: str = "") -> Path:
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").write_text(text)
    if real:
        (root / "run/systemd/resolve").mkdir(parents=True)
        (root / "run/systemd/resolve/resolv.conf").write_text(real)
    return root


def test_no_name_server(tmp_path: Path) -> None:
    result = network.resolver(resolv(tmp_path, "search example\n"))
    assert (result.level, "names no name server" in result.what) == ("fail", True)


def test_name_server_on_loopback(tmp_path: Path) -> None:
    result = network.resolver(resolv(tmp_path, "nameserver 127.0.0.1\n"))
    assert (result.level, "K3s then asks 8.8.8.8" in result.what) == ("warn", True)
    assert "--resolv-conf=" in result.fix


def test_systemd_resolved_is_fine(tmp_path: Path) -> None:
    assert network.resolver(resolv(tmp_path, "nameserver 127.0.0.53\n", "nameserver 10.0.0.2\n")).level == "ok"


def test_name_server_of_the_network_is_fine(tmp_path: Path) -> None:
    assert network.resolver(resolv(tmp_path, "nameserver 10.0.0.2\nnameserver fe80::1%eth0\n")).level == "ok"


def at(port: int) -> Requirements:
    return Requirements("vm", data_api=f"http://127.0.0.1:{port}")


def test_data_api_that_answers() -> None:
    with answering(Answers(200, b'{"status": "OK"}')) as (port, requests):
        assert network.data_api(at(port), 5).level == "ok"
    assert requests == ["GET /health"], "any other path may move the data API's cursor"


def test_data_api_that_answers_503() -> None:
    with answering(Answers(503)) as (port, _):
        result = network.data_api(at(port), 5)
    assert (result.level, "answers 503" in result.what) == ("warn", True)


def test_data_api_that_refuses(shut: int) -> None:
    result = network.data_api(at(shut), 5)
    assert (result.level, f"refuses connections to port {shut}" in result.what) == ("fail", True)


def test_data_api_behind_a_firewall(silent: int) -> None:
    result = network.data_api(at(silent), 0.05)
    assert (result.level, "a firewall drops the packets" in result.what) == ("fail", True)


@pytest.mark.parametrize(
    ("wrong", "sentence", "fix"),
    [
        (socket.gaierror(-2, "Name or service not known"), "DNS does not know registry.example", "getent hosts"),
        (TimeoutError("timed out"), "a firewall drops the packets", "open TCP 443 to registry.example"),
        (ConnectionRefusedError(111, "refused"), "refuses connections to port 443", "check the address"),
        (ssl.SSLCertVerificationError("self-signed"), "its certificate is not accepted", "update-ca-certificates"),
        (OSError(113, "No route to host"), "No route to host", "ip route get registry.example"),
    ],
)
def test_each_connection_error_has_its_message_and_fix(wrong: OSError, sentence: str, fix: str) -> None:
    for error in (wrong, urllib.error.URLError(wrong)):
        why, what_to_do = network.explain(error, "registry.example", 443)
        assert sentence in why
        assert fix in what_to_do
