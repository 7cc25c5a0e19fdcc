"""The Kubernetes cluster of the platform, and its interface for other programs.

There are two kinds of cluster: `kind`, which this package creates and removes (see README.md), and `current`, the
cluster of the current kubeconfig context, which somebody else operates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ci.cluster.choice import choose


def kubectl() -> Path:
    """Path of a kubectl for the cluster."""
    return choose().kubectl()


def import_archives(archives: Sequence[Path]) -> None:
    """Import OCI archives with images into every node.

    Raises:
        Failure: images cannot be imported into this kind of cluster.
    """
    choose().import_archives(archives)


def present_images() -> set[str]:
    """Names (`registry/name:tag` and `registry/name@digest`) of the images that every node has."""
    return choose().present_images()


def node_network() -> str | None:
    """The network of all nodes, or None if it is unknown. A node's address in it may change when the node restarts."""
    return choose().node_network()
