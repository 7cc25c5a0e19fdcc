"""Names, addresses, versions and folders of the one-node cluster; everything else in this package reads them here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from ci.paths import cache_dir, state_dir

NODE = "house"
BRIDGE = "house0"  # carries the node's address, so that certificates do not depend on the machine's own network
NODE_ADDRESS = "10.46.0.1"
POD_CIDR = "10.44.0.0/16"
NODE_POD_CIDR = "10.44.0.0/24"
SERVICE_CIDR = "10.45.0.0/16"
API_SERVICE = "10.45.0.1"
DNS_SERVICE = "10.45.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
# Every port that a program of the cluster listens on, all on the bridge or on 127.0.0.1.
PORTS = {
    "kube-apiserver": (API_PORT,),
    "etcd": (ETCD_PORT, ETCD_PEER_PORT),
    "kubelet": (10250, 10248),
    "kube-proxy": (10249, 10256),
    "kube-controller-manager": (10257,),
    "kube-scheduler": (10259,),
    "netpold": (10260,),
}
IMAGE_PREFIX = "localhost/house-cluster"

GO_SOURCES = Path(__file__).parent / "go"
MANIFESTS = Path(__file__).parent / "manifests"
CNI_PLUGINS = Path("/usr/lib/cni")  # where Debian puts them
RUN = Path("/run/house-platform")  # sockets and mounts: short paths, gone at reboot
SOCKET = RUN / "containerd.sock"
NETPOL_SOCKET = RUN / "netpold.sock"
CGROUPS = Path("/sys/fs/cgroup")
NFT_TABLES = ("inet house_netpol", "ip house_nat", "ip kube-proxy", "ip6 kube-proxy")


def build_dir() -> Path:
    """Where compiled programs and the cluster's own images are kept; outlives the cluster."""
    return cache_dir() / "cluster"


def state(*parts: str) -> Path:
    """A path in the cluster's state folder."""
    return state_dir().joinpath(*parts)


def kubeconfig_path() -> Path:
    """The kubeconfig of the one-node cluster's administrator."""
    return state("kubeconfig.yaml")


@cache
def module_version(module: str, sources: Path = GO_SOURCES) -> str:
    """Version of a module as the go.mod in `sources` requires it, such as `v1.36.3`."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (sources / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise LookupError(f"go.mod does not require {module}")
    return found.group(1)


@cache
def go_version(sources: Path = GO_SOURCES) -> tuple[int, ...]:
    """The Go version that the go.mod in `sources` asks for."""
    found = re.search(r"^go (\d+(?:\.\d+)+)", (sources / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise LookupError("go.mod names no Go version")
    return tuple(int(part) for part in found.group(1).split("."))
