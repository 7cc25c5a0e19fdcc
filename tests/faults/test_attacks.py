"""Hostile clients of one predictor pod under its own limits: others get their prices, and the pod is not restarted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ci.common.console import say
from ci.common.kube import PLATFORM, forward, get, kube
from ci.deploy import platform, runs, workloads
from tests.kit.attacks import CLIENTS, Singles, attack
from tests.kit.platform_data import ledger

pytestmark = pytest.mark.e2e

READERS = 100  # of the history
ROUNDS = 5
MEBIBYTE = 2**20
GROUPS = "/sys/fs/cgroup"


@pytest.fixture(scope="module")
def pod() -> str:
    """A predictor of a freshly installed platform with a champion."""
    platform.remove()
    platform.install("kind", [r"datasource.config.batches=0\,1"])
    workloads.wait_ready()
    with runs.airflow() as client:
        runs.run_once(client)
    kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)
    pods = get("-n", PLATFORM, "pods", "-l", "app.kubernetes.io/name=fastapi")["items"]
    return str(pods[0]["metadata"]["name"])


@pytest.fixture
def addresses(pod: str) -> Iterator[tuple[str, str]]:
    """Two tunnels to the pod, for the attackers and for others, because one tunnel is one connection."""
    with forward(PLATFORM, f"pod/{pod}", 8000) as attackers, forward(PLATFORM, f"pod/{pod}", 8000) as others:
        yield attackers, others


def restarts(pod: str) -> int:
    statuses = get("-n", PLATFORM, f"pod/{pod}")["status"]["containerStatuses"]
    return sum(int(each["restartCount"]) for each in statuses)


def peak_memory(pod: str) -> int:
    """The highest memory of the container since its start, in MiB, from control groups of version 2 or 1."""
    script = f"cat {GROUPS}/memory.peak 2> /dev/null || cat {GROUPS}/memory/memory.max_usage_in_bytes"
    return int(kube("-n", PLATFORM, "exec", pod, "-c", "fastapi", "--", "sh", "-c", script)) // MEBIBYTE


def sessions() -> int:
    """Connections to the ledger's database since its statistics began, of all clients."""
    return int(ledger("select sessions from pg_stat_database where datname = 'ledger'")[0][0])


@pytest.mark.timeout(900)
def test_large_lists_and_slow_senders_take_no_price_from_others(pod: str, addresses: tuple[str, str]) -> None:
    attackers, others = addresses
    singles = Singles()
    with attack(attackers) as attacked, httpx.Client(base_url=others, timeout=60) as client:
        began = time.monotonic()
        while attacked.lists_left() or (attacked.slow[408] < CLIENTS and time.monotonic() - began < 300):
            singles.ask(client)
            time.sleep(0.05)
    limit = get("-n", PLATFORM, f"pod/{pod}")["spec"]["containers"][0]["resources"]["limits"]["memory"]
    say(f"lists {dict(attacked.lists)}, slow {dict(attacked.slow)}, {singles}, peak {peak_memory(pod)} MiB of {limit}")
    assert restarts(pod) == 0
    assert set(singles.statuses) == {200}, "every single listing has a price"
    assert set(attacked.lists) <= {200, 408, 503}
    assert attacked.lists[200] >= 3, "some lists are priced"
    assert set(attacked.slow) <= {408, 503}


def test_many_readers_of_the_history_share_its_connections(pod: str, addresses: tuple[str, str]) -> None:
    """The pod answers 64 requests at a time, and refuses the others with the time to wait."""
    attackers, others = addresses
    singles, statuses = Singles(), Counter[tuple[int, bool]]()

    def read(_: int) -> tuple[int, bool]:
        answer = httpx.get(f"{attackers}/history", timeout=60)
        return answer.status_code, "Retry-After" in answer.headers

    before = sessions()
    with ThreadPoolExecutor(READERS) as pool, httpx.Client(base_url=others, timeout=60) as client:
        for _ in range(ROUNDS):
            answers = [pool.submit(read, at) for at in range(READERS)]
            while not all(each.done() for each in answers):
                singles.ask(client)
            statuses.update(each.result() for each in answers)
            time.sleep(3)  # the answer is shared for two seconds
    opened = sessions() - before
    say(f"history {dict(statuses)}, {singles}, {opened} connections for {READERS * ROUNDS} readers")
    assert set(statuses) <= {(200, False), (503, True)}
    assert statuses[200, False] >= 32 * ROUNDS
    assert set(singles.statuses) == {200}
    assert opened < READERS, "also those of other clients of the ledger"
    assert restarts(pod) == 0
