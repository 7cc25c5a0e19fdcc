"""The configuration file that kind gets."""

from __future__ import annotations

from ci.cluster import settings
from ci.cluster.docker import Docker


def configuration(count: int, engine: Docker) -> str:
    """The configuration of kind for a cluster of `count` nodes. It is the same for both node images."""
    workers = "- role: worker\n" * (count - 1)
    # kind finds a free port only on the machine's own network
    port = settings.API_PORT if engine.own else 0
    return f"""kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: ipv4
  podSubnet: {settings.POD_CIDR}
  serviceSubnet: {settings.SERVICE_CIDR}
  kubeProxyMode: iptables
  apiServerAddress: {engine.api_address}
  apiServerPort: {port}
nodes:
- role: control-plane
{workers}kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
"""
