"""The containers of the kind cluster's nodes, and the Docker network that they share."""

from __future__ import annotations

from ci.cluster.docker import Docker
from ci.cluster.registryless.engine_network import MACHINE_ADDRESS
from ci.cluster.settings import CONTROL_PLANE, NAME

LABEL = f"label=io.x-k8s.kind.cluster={NAME}"  # filter of `docker ps`: the nodes of this cluster


def nodes(engine: Docker) -> list[str]:
    """Names of the cluster's nodes, the control plane first."""
    names = engine.run("ps", "-a", "--filter", LABEL, "--format", "{{.Names}}").split()
    return sorted(names, key=lambda name: (name != CONTROL_PLANE, name))


def running_nodes(engine: Docker) -> list[str]:
    """Container ids of the nodes that run."""
    return engine.run("ps", "-q", "--filter", "status=running", "--filter", LABEL).split()


def paused_nodes(engine: Docker) -> list[str]:
    """Names of the nodes that are paused (`docker pause`)."""
    return engine.run("ps", "--filter", "status=paused", "--filter", LABEL, "--format", "{{.Names}}").split()


def control_plane_id(engine: Docker) -> str:
    """Id of the control plane's container; empty if there is none."""
    return engine.run("inspect", "--format", "{{.Id}}", CONTROL_PLANE, check=False).strip()


def foreign_containers(engine: Docker) -> list[str]:
    """Names of the engine's containers that are not nodes of this cluster."""
    present = engine.run("ps", "-a", "--format", "{{.Names}}").split()
    return sorted(set(present) - set(nodes(engine)))


def node_network(engine: Docker) -> str:
    """The IPv4 network of all nodes. Example: `172.18.0.0/16`. A node's address changes when Docker restarts."""
    subnets = engine.run("network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}").split()
    return next(subnet for subnet in subnets if ":" not in subnet)


def machine_address(engine: Docker) -> str:
    """Address at which pods of the cluster reach this machine."""
    if engine.own:
        return MACHINE_ADDRESS
    gateways = engine.run(
        "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    ).split()
    return next(gateway for gateway in gateways if ":" not in gateway)
