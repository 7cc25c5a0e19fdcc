"""The memory and processor time of the cluster without the platform stay within a budget."""

from __future__ import annotations

import os
import time

import pytest

from ci.cluster import docker
from ci.cluster.record import creation_seconds
from ci.common.console import say
from ci.common.kube import PLATFORM, kube
from tests.kit.node_memory import anonymous_memory

pytestmark = pytest.mark.e2e

CREATION_SECONDS = 60
MEMORY_MIB = 1331  # 1.3 GiB
CORES = 0.3
WINDOW = 30.0  # seconds over which processor time is measured
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(node: str) -> float:
    """Processor time of all processes of a node, including its pods."""
    command = "cat /proc/[0-9]*/stat 2>/dev/null || true"
    ticks = 0
    for line in docker.choose().run("exec", node, "sh", "-c", command).splitlines():
        fields = line.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def test_a_new_cluster_stays_within_its_budget(nodes: list[str]) -> None:
    if kube("get", "namespace", PLATFORM, "--ignore-not-found"):
        pytest.skip("the platform is installed: the cost of the cluster alone cannot be measured")
    before = {node: processor_seconds(node) for node in nodes}
    began = time.monotonic()
    time.sleep(WINDOW)
    after, seconds = {node: processor_seconds(node) for node in nodes}, time.monotonic() - began
    cores = {node: (after[node] - before[node]) / seconds for node in nodes}
    memory = {node: sum(anonymous_memory(node).values()) for node in nodes}
    creation = creation_seconds()
    for node in nodes:
        say(f"{node:<22} {memory[node]:5.0f} MiB  {cores[node]:.2f} of a core")
    say(f"{'total':<22} {sum(memory.values()):5.0f} MiB  {sum(cores.values()):.2f} of a core; "
        f"created in {creation:.0f} s")  # fmt: skip
    assert sum(memory.values()) <= MEMORY_MIB
    assert sum(cores.values()) <= CORES
    assert creation <= CREATION_SECONDS
