"""Every container has CPU and memory requests and a memory limit."""

from __future__ import annotations

from tests.kit.rendering import Workload

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size(quantity: str) -> float:
    """Bytes of a quantity such as 256Mi."""
    return float(quantity[:-2]) * UNITS[quantity[-2:]]


def test_container_has_requests_and_a_memory_limit(workload: Workload) -> None:
    for container in workload.containers:
        where, resources = f"{workload.name}: {container['name']}", container.get("resources", {})
        assert {"cpu", "memory"} <= set(resources.get("requests", {})), (
            f"{where}: resources.requests lacks cpu or memory"
        )
        assert "memory" in resources.get("limits", {}), f"{where}: resources.limits lacks memory"
        assert "cpu" not in resources["limits"], f"{where}: a CPU limit slows a container down even if the CPU is idle"


def test_limit_is_not_below_the_request(workload: Workload) -> None:
    for container in workload.containers:
        request, limit = (container["resources"][part]["memory"] for part in ("requests", "limits"))
        assert size(request) <= size(limit), f"{workload.name}: {container['name']}: {request} above {limit}"
