"""Chooses the kind of cluster, and defines the operations that each kind has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ci.cluster.current import Current
from ci.cluster.kind import Kind
from ci.common.console import Failure

KINDS = ("kind", "current")


class Cluster(Protocol):
    """The operations of a cluster."""

    name: str

    def build(self) -> None:
        """Make what `up` needs, without creating a cluster."""

    def up(self) -> None:
        """Create or start the cluster. Changes nothing if it runs."""

    def start(self) -> None:
        """Start the cluster after a stop."""

    def stop(self) -> None:
        """Stop the cluster and keep its data."""

    def down(self) -> None:
        """Remove the cluster with its data."""

    def status(self) -> int:
        """Print the state of the cluster; returns 0 if everything is ready."""

    def kubectl(self) -> Path:
        """Path of a kubectl for the cluster."""

    def kubeconfig(self) -> Path | None:
        """The kubeconfig of the cluster; None means the kubeconfig of the environment."""

    def environment(self) -> dict[str, str]:
        """Variables that a shell needs to work with the cluster."""

    def node_network(self) -> str | None:
        """The network of all nodes; None if it is unknown."""

    def import_archives(self, archives: Sequence[Path]) -> None:
        """Import OCI archives into every node."""

    def present_images(self) -> set[str]:
        """Names of the images that every node has."""


def choose(name: str | None = None) -> Cluster:
    """Choose the cluster: `name` if it is set, else the variable CLUSTER, else kind.

    Raises:
        Failure: there is no such kind of cluster.
    """
    chosen = name or os.environ.get("CLUSTER") or "kind"
    if chosen not in KINDS:
        raise Failure(f"unknown kind of cluster {chosen!r}: CLUSTER (or --kind) is one of {', '.join(KINDS)}")
    return Kind() if chosen == "kind" else Current()
