"""Checks that must pass before a cluster is created."""

from __future__ import annotations

import shutil
from pathlib import Path

from ci.cluster import settings
from ci.cluster.containers import nodes
from ci.cluster.docker import Docker
from ci.cluster.settings import NAME
from ci.common.console import Failure


def check_room(engine: Docker) -> None:
    """Check that this machine has enough memory and disk space.

    Raises:
        Failure: names the resource that is short and how much of it is available.
    """
    available = available_memory_gb()
    root = Path(engine.run("info", "--format", "{{.DockerRootDir}}").strip() or "/")
    folder = root if root.exists() else Path("/")
    free = shutil.disk_usage(folder).free / 1e9
    missing = []
    if available < settings.MEMORY_GB:
        missing.append(f"memory: {available:.1f} GB available, {settings.MEMORY_GB:.0f} GB needed (end other programs)")
    if free < settings.DISK_GB:
        missing.append(f"disk: {free:.0f} GB free at {folder}, {settings.DISK_GB:.0f} GB needed "
                       "(`docker system prune` or `make cache-clean` free some)")  # fmt: skip
    if missing:
        raise Failure("this machine has too little room for the platform:\n  " + "\n  ".join(missing))


def refuse_foreign(engine: Docker) -> None:
    """Refuse to touch a cluster of the same name that `up` did not create.

    Raises:
        Failure: there is such a cluster.
    """
    if nodes(engine):
        raise Failure(
            f"there is a kind cluster with the name {NAME} that `make cluster` did not create: "
            f"`kind delete cluster --name {NAME}` removes it, CLUSTER=current uses it"
        )


def available_memory_gb() -> float:
    """Memory that programs can still get, in GB; infinite if the kernel does not report it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1e6
    return float("inf")
