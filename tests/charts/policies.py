"""The pods that the rendered NetworkPolicies select, and the connections that they allow."""

from __future__ import annotations

from typing import Any

from tests.kit.rendering import Object, Workload, objects

NAMESPACE = "kubernetes.io/metadata.name"


def policies(workload: Workload) -> list[Object]:
    """The NetworkPolicies that select a workload's pods."""
    return [
        item
        for item in objects(workload.variant)
        if item["kind"] == "NetworkPolicy"
        and item["metadata"]["namespace"] == workload.namespace
        and item["spec"]["podSelector"].get("matchLabels", {}).items() <= workload.labels.items()
    ]


def admits(server: Workload, client: Workload, port: int) -> bool:
    """True if the server's policies admit the client's pods on a port."""
    peers = [
        peer
        for policy in policies(server)
        for rule in policy["spec"].get("ingress", [])
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["from"]
    ]
    return any(matches(peer, client, server.namespace) for peer in peers)


def matches(peer: dict[str, Any], pods: Workload, own: str) -> bool:
    """True if a peer of a policy in the namespace `own` selects these pods."""
    space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE, own)
    return (
        "podSelector" in peer
        and space == pods.namespace
        and peer["podSelector"].get("matchLabels", {}).items() <= pods.labels.items()
    )
