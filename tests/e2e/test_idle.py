"""The memory of the platform stays within a budget while no pipeline runs."""

from __future__ import annotations

import time

import pytest

from ci.cluster.choice import choose
from ci.common.console import say
from ci.common.kube import PLATFORM, get
from tests.kit.node_memory import anonymous_memory

from .conftest import Fed

pytestmark = pytest.mark.e2e

MEMORY_MIB = 1638  # 1.6 GiB
SETTLING = 60.0  # seconds to wait after the last run


def test_the_memory_of_the_idle_platform_stays_within_its_budget(fed: Fed) -> None:
    assert choose().name == "kind", (
        "this test reads processes on the nodes, so it needs the kind cluster (CLUSTER=kind)"
    )
    time.sleep(SETTLING)
    nodes = [node["metadata"]["name"] for node in get("nodes")["items"]]
    memory = {uid: mib for node in nodes for uid, mib in anonymous_memory(node).items()}
    pods = [pod for pod in get("pods", "-n", PLATFORM)["items"] if pod["status"]["phase"] == "Running"]
    table = sorted(((memory[pod["metadata"]["uid"]], pod["metadata"]["name"]) for pod in pods), reverse=True)
    for mib, name in table:
        say(f"{name:<42} {mib:6.0f} MiB")
    total = sum(mib for mib, _ in table)
    say(f"{'the platform, idle':<42} {total:6.0f} MiB of {MEMORY_MIB}")
    assert len(table) > 8, "fewer pods run than the platform has"
    assert total <= MEMORY_MIB
