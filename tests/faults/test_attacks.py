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
MEBIBYTE = 2**20


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


def memory(pod: str, name: str) -> int:
    """A figure of the pod's control group, in MiB."""
    words = ("exec", pod, "-c", "fastapi", "--", "cat", f"/sys/fs/cgroup/memory.{name}")
    return int(kube("-n", PLATFORM, *words)) // MEBIBYTE


@pytest.mark.timeout(900)
def test_large_lists_and_slow_senders_take_no_price_from_others(pod: str, addresses: tuple[str, str]) -> None:
    attackers, others = addresses
    singles = Singles()
    with attack(attackers) as attacked, httpx.Client(base_url=others, timeout=60) as client:
        began = time.monotonic()
        while attacked.lists_left() or (attacked.slow[408] < CLIENTS and time.monotonic() - began < 300):
            singles.ask(client)
            time.sleep(0.05)
    peak, limit = memory(pod, "peak"), memory(pod, "max")
    say(f"lists {dict(attacked.lists)}, slow {dict(attacked.slow)}, {singles}, peak {peak} of {limit} MiB")
    assert restarts(pod) == 0
    assert set(singles.statuses) == {200}, "every single listing has a price"
    assert set(attacked.lists) <= {200, 408, 503}
    assert attacked.lists[200] >= 3, "some lists are priced"
    assert set(attacked.slow) <= {408, 503}


def test_many_readers_of_the_history_share_few_connections(pod: str, addresses: tuple[str, str]) -> None:
    """The role has a limit in PostgreSQL, and other roles keep theirs."""
    attackers, others = addresses
    singles, statuses = Singles(), Counter[int]()
    highest = 0

    def read(_: int) -> int:
        return httpx.get(f"{attackers}/history", timeout=60).status_code

    with ThreadPoolExecutor(READERS) as pool, httpx.Client(base_url=others, timeout=60) as client:
        for _ in range(5):
            answers = [pool.submit(read, at) for at in range(READERS)]
            while not all(each.done() for each in answers):
                singles.ask(client)
                count = ledger("select count(*) from pg_stat_activity where usename = 'predictor'")[0][0]
                highest = max(highest, int(count))
            statuses.update(each.result() for each in answers)
            time.sleep(3)  # the answer is shared for some seconds
    limit = int(ledger("select rolconnlimit from pg_roles where rolname = 'predictor'")[0][0])
    say(f"history {dict(statuses)}, {singles}, at most {highest} of {limit} connections")
    assert set(statuses) == {200}
    assert set(singles.statuses) == {200}
    assert highest <= limit
    assert restarts(pod) == 0
