"""Live tests of the kind cluster. They fail if there is no cluster: `make cluster` creates it."""

from __future__ import annotations

import pytest

from ci import cluster
from ci.cluster.choice import choose
from ci.cluster.registryless import programs
from ci.common.kube import get


@pytest.fixture(scope="session", autouse=True)
def kind_cluster() -> None:
    """Require CLUSTER=kind, and import the image of the test client into the nodes."""
    assert choose().name == "kind", "these tests stop and start nodes: they need the kind cluster (CLUSTER=kind)"
    if programs.probe_image() not in cluster.present_images():
        cluster.import_archives([programs.probe_archive()])


@pytest.fixture(scope="session")
def nodes(kind_cluster: None) -> list[str]:
    """Names of the nodes, the control plane first."""
    names = [node["metadata"]["name"] for node in get("nodes")["items"]]
    return sorted(names, key=lambda name: ("control-plane" not in name, name))


@pytest.fixture(scope="session")
def workers(nodes: list[str]) -> list[str]:
    """Names of the workers; at least two."""
    assert len(nodes) >= 3, f"these tests need two workers, but the cluster has the nodes {nodes}: NODES=3 make cluster"
    return nodes[1:]
