"""Names, address ranges and folders of the cluster. The other modules of this package read them here."""

from __future__ import annotations

import os
from pathlib import Path

from ci.common.console import Failure
from ci.common.paths import state_dir

NAME = "house"  # name of the kind cluster
CONTROL_PLANE = f"{NAME}-control-plane"  # the container and the Kubernetes node have the same name
DEFAULT_NODES = 3
POD_CIDR = "10.44.0.0/16"
SERVICE_CIDR = "10.45.0.0/16"
API_SERVICE = "10.45.0.1"
DOMAIN = "cluster.local"
API_PORT = 6443  # port of the API server inside the control plane's container

# kind's official node image for the version of kind in kind_program/go.mod. The variable NODE_IMAGE replaces it.
OFFICIAL_IMAGE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
KIND_MODULE = Path(__file__).parent / "kind_program"
MEMORY_GB = 6.0  # memory that must be available before the cluster is created
DISK_GB = 15.0  # disk space that must be free where Docker keeps its data


def state(*parts: str) -> Path:
    """A path in the state folder, which `down` removes."""
    return state_dir().joinpath(*parts)


def kubeconfig_path() -> Path:
    """Path of the kind cluster's administrator kubeconfig. The user's own kubeconfig is never changed."""
    return state("kubeconfig.yaml")


def kubectl_path() -> Path:
    """Path of the kubectl that has the version of the cluster."""
    return state("bin", "kubectl")


def wanted_nodes() -> int | None:
    """Number of nodes from the variable NODES; None if it is not set.

    Raises:
        Failure: it is not a number from 1 to 9.
    """
    text = os.environ.get("NODES", "")
    if not text:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 9:
        raise Failure(f"NODES={text} is not a number from 1 to 9")
    return int(text)
