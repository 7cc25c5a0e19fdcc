"""Addresses that egress rules name, as the cluster tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.common import kube
from ci.common.console import Failure
from ci.common.environments import names_nodes


def cluster(monkeypatch: pytest.MonkeyPatch, servers: list[str], nodes: list[list[str]]) -> None:
    """A cluster with such API servers, and nodes with such internal addresses."""
    slices = [{"endpoints": [{"addresses": [address]}], "ports": [{"port": 6443}]} for address in servers]
    machines = [
        {"status": {"addresses": [{"type": "Hostname", "address": "n"},
                                  *({"type": "InternalIP", "address": one} for one in own)]}}
        for own in nodes
    ]  # fmt: skip
    answers: dict[str, list[dict[str, Any]]] = {"endpointslices": slices, "nodes": machines}

    def get(*words: str) -> dict[str, Any]:
        return {"items": next(items for kind, items in answers.items() if kind in words)}

    monkeypatch.setattr(kube, "get", get)


@pytest.mark.parametrize(
    ("servers", "nodes", "wanted"),
    [
        (["10.0.0.1"], [["10.0.0.1"]], {"global.kubeApi.cidr": "10.0.0.1/32"}),
        (
            ["10.0.0.1"],
            [["10.0.0.3"], ["10.0.0.1", "fd00::1"], ["10.0.0.2"]],
            {"global.kubeApi.cidr": "10.0.0.1/32", "global.nodes.cidr": "{10.0.0.1/32,10.0.0.2/32,10.0.0.3/32}"},
        ),
        (
            ["10.0.0.2", "10.0.0.1"],
            [["10.0.0.1"], ["10.0.0.2"]],
            {"global.kubeApi.cidr": "{10.0.0.1/32,10.0.0.2/32}"},
        ),
        (["10.0.0.9"], [["10.0.0.1"]], {"global.kubeApi.cidr": "10.0.0.9/32", "global.nodes.cidr": "10.0.0.1/32"}),
    ],
    ids=["one node", "three nodes", "an API server on each", "a hosted API server"],
)
def test_egress_rules_know_every_api_server_and_every_node(
    servers: list[str], nodes: list[list[str]], wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(monkeypatch, servers, nodes)
    assert kube.egress_values() == wanted | {"global.kubeApi.port": "6443"}
    assert "global.nodes.cidr" not in kube.egress_values(nodes=False)


def test_cluster_without_an_api_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, [], [])
    with pytest.raises(Failure, match="the Service `kubernetes` has no endpoint"):
        kube.egress_values()


@pytest.mark.parametrize(
    ("text", "named"), [("", False), ("global: {}", False), ("global: {nodes: {cidr: 10.0.0.0/24}}", True)]
)
def test_environment_that_names_the_nodes_network_is_left_alone(text: str, named: bool, tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "prod.yaml").write_text(text)
    assert names_nodes("prod", tmp_path) is named
