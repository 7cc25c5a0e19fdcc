"""The memory and processor time of the cluster without the platform stay within a budget."""

from __future__ import annotations

import os
import resource
import subprocess
import time

import pytest

from ci.cluster import docker
from ci.cluster.record import creation_seconds
from ci.common.console import say
from ci.common.kube import PLATFORM, kube
from tests.kit.long_form import LONG
from tests.kit.node_memory import anonymous_memory

pytestmark = pytest.mark.e2e

CREATION_SECONDS = 60
MEMORY_MIB = 1331  # 1.3 GiB
CORES = 0.3
# The same work takes up to 1.7 times as long when a virtual machine shares its processor with others. Starting
# processes slows down as the cluster does: measured in eight windows, the processor time of the cluster
# differs by 10 % from its mean, and its ratio to the time of a start by 3 %. So where a shell needs more than
# this to start, the processor time is reduced in proportion. A fast start does not raise it: 0.3 of a core is
# what a user's machine has to spare.
START_SECONDS = 0.0022
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


def start_seconds() -> float:
    """Processor time of starting a shell."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["/bin/sh", "-c", "true"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_new_cluster_stays_within_its_budget(nodes: list[str]) -> None:
    if kube("get", "namespace", PLATFORM, "--ignore-not-found"):
        pytest.skip("the platform is installed: the cost of the cluster alone cannot be measured")
    before = {node: processor_seconds(node) for node in nodes}
    began = time.monotonic()
    starts = []
    while time.monotonic() < began + WINDOW:
        time.sleep(0.5)
        starts.append(start_seconds())
    after, seconds = {node: processor_seconds(node) for node in nodes}, time.monotonic() - began
    cores = {node: (after[node] - before[node]) / seconds for node in nodes}
    memory = {node: sum(anonymous_memory(node).values()) for node in nodes}
    creation = creation_seconds()
    start = sum(starts) / len(starts)
    total = sum(cores.values()) * min(1.0, START_SECONDS / start)
    for node in nodes:
        say(f"{node:<22} {memory[node]:5.0f} MiB  {cores[node]:.2f} of a core")
    say(f"{'total':<22} {sum(memory.values()):5.0f} MiB  {sum(cores.values()):.2f} of a core, {total:.2f} of a "
        f"processor at full speed (a shell starts in {start * 1000:.1f} ms); created in {creation:.0f} s")  # fmt: skip
    assert sum(memory.values()) <= MEMORY_MIB
    assert total <= CORES
    if LONG:  # the time of day on a shared processor: 44 to 72 s for the same work
        assert creation <= CREATION_SECONDS
