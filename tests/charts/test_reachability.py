"""The NetworkPolicies of every environment allow exactly the connections of the table in tests/kit/reachability.py."""

from __future__ import annotations

import ipaddress
from typing import Any

from ci.common.kube import JOBS, PLATFORM
from tests.charts.policies import admits, matches, policies
from tests.kit.reachability import API_SERVER, DNS, FETCH, FOREIGN, OUTSIDE, REACHES, expected
from tests.kit.rendering import Workload, find, objects, workloads

NAME = "app.kubernetes.io/name"
ADDRESSES = {API_SERVER: ("10.46.0.1", 6443), OUTSIDE: ("198.51.100.7", 443)}


def pods(variant: str, namespace: str, labels: dict[str, str]) -> Workload:
    """Pods with these labels, which no chart installs."""
    item = {"kind": "PodTemplate", "metadata": {"namespace": namespace, "name": "foreign"}}
    return Workload(variant, item | {"template": {"metadata": {"labels": labels}, "spec": {}}})


def clients(variant: str) -> dict[str, Workload]:
    """Every client by its name in the table."""
    installed = {workload.labels[NAME]: workload for workload in workloads(variant)}
    spaces = {"platform": PLATFORM, "jobs": JOBS}
    foreign = {name: pods(variant, spaces[space], labels) for name, (space, labels) in FOREIGN.items()}
    fetch = pods(variant, JOBS, installed["pipeline"].labels | FETCH)
    return installed | foreign | {"fetch": fetch}


def servers(variant: str) -> dict[str, tuple[Workload, int]]:
    """Pods and port behind each port of a Service."""
    installed = {workload.labels[NAME]: workload for workload in workloads(variant)}
    return {
        f"{service['metadata']['name']}:{port['port']}": (installed[service["spec"]["selector"][NAME]], port["port"])
        for service in objects(variant)
        if service["kind"] == "Service"
        for port in service["spec"]["ports"]
    }


def egress(client: Workload) -> list[dict[str, Any]]:
    """Every rule of egress that applies to a client."""
    return [rule for policy in policies(client) for rule in policy["spec"].get("egress", [])]


def leaves(client: Workload, server: Workload, port: int) -> bool:
    """True if the client's policies let it connect to the server's pods on a port."""
    return any(
        matches(peer, server, client.namespace)
        for rule in egress(client)
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["to"]
    )


def reaches_address(client: Workload, address: str, port: int) -> bool:
    """True if the client's policies let it connect to an address outside of the pods' network."""
    return any(
        ipaddress.ip_address(address) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
        for rule in egress(client)
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["to"]
        if "ipBlock" in peer
    )


def reached(client: Workload, variant: str) -> set[str]:
    """Every target that the policies of both sides allow."""
    inside = {target for target, (server, port) in servers(variant).items()
              if leaves(client, server, port) and admits(server, client, port)}  # fmt: skip
    outside = {target for target, (address, port) in ADDRESSES.items() if reaches_address(client, address, port)}
    resolves = any(peer.get("podSelector") == {"matchLabels": {"k8s-app": "kube-dns"}}
                   for rule in egress(client) for peer in rule["to"])  # fmt: skip
    return inside | outside | ({DNS} if resolves else set())


def test_policies_allow_exactly_the_connections_of_the_table(variant: str) -> None:
    targets = {*servers(variant), API_SERVER, OUTSIDE, DNS}
    wrong = [
        f"{name}: the policies allow {sorted(now - wanted)} too much, and {sorted(wanted - now)} too little"
        for name, client in clients(variant).items()
        if (now := reached(client, variant)) != (wanted := expected(name, targets))
    ]
    assert not wrong, "\n".join(wrong)


def test_table_names_exactly_the_clients_and_servers_of_the_charts() -> None:
    assert set(REACHES) == set(clients("everything"))
    named = set().union(*REACHES.values()) - {API_SERVER, OUTSIDE}
    assert named <= set(servers("everything"))
    # nobody in the cluster connects to them, except an ingress controller
    consoles = {"minio:9001", "oauth2-proxy:8501", "oauth2-proxy:9090", "oauth2-proxy:5000", "oauth2-proxy:8080"}
    assert set(servers("everything")) - named == consoles


def test_stage_fetch_of_the_table_has_the_labels_of_its_policy(variant: str) -> None:
    selector = find(objects(variant), "NetworkPolicy", "pipeline-data-api", JOBS)["spec"]["podSelector"]
    assert selector["matchLabels"].items() <= FETCH.items()
