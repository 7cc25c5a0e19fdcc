"""The autoscaler adds predictor pods under load and removes them afterwards. No request fails, on any node."""

from __future__ import annotations

import time

import pytest

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, get, kube, trouble
from ci.deploy import platform, runs, workloads
from tests.kit.clients import Clients

pytestmark = pytest.mark.e2e

FEWEST, MOST = 2, 6  # pods
BUSY, QUIET = 0.004, 0.2  # seconds between an answer and the next request of a client
SCALE_OUT_SECONDS, SCALE_IN_SECONDS = 300, 720  # scaling in begins five minutes after the last high measurement


@pytest.fixture(scope="module", autouse=True)
def champion() -> None:
    """A freshly installed platform with a champion and an autoscaler."""
    platform.remove()
    scaling = {"enabled": "true", "minReplicas": FEWEST, "maxReplicas": MOST}
    platform.install("kind", [f"fastapi.autoscaling.{name}={value}" for name, value in scaling.items()])
    workloads.wait_ready()
    with runs.airflow() as client:
        runs.run_once(client)
    kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)


def ready_pods() -> dict[str, str]:
    """The node of each pod of the predictor that is Ready and is not being deleted."""
    items = get("-n", PLATFORM, "pods", "-l", "app.kubernetes.io/name=fastapi")["items"]
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in items
        if "deletionTimestamp" not in pod["metadata"] and not trouble(pod)
    }


@pytest.mark.timeout(2400)
def test_no_request_fails_while_pods_are_added_and_removed() -> None:
    began, counts = time.monotonic(), [0]

    with Clients(threads=8, pause=BUSY) as clients:

        def has(count: int) -> bool:
            pods = ready_pods()
            if len(pods) != counts[-1]:
                counts.append(len(pods))
                seconds, nodes, answers = time.monotonic() - began, set(pods.values()), sum(clients.answered.values())
                say(f"| {seconds:.0f} s | {len(pods)} pods on {len(nodes)} nodes | {answers:,} answers so far |")
            return len(pods) == count

        wait_for(f"{MOST} pods", lambda: has(MOST), SCALE_OUT_SECONDS, every=1)
        nodes = set(ready_pods().values())
        clients.pause = QUIET
        wait_for(f"{FEWEST} pods", lambda: has(FEWEST), SCALE_IN_SECONDS, every=1)
    say(f"clients: {clients}")
    assert clients.failures == []
    assert len(clients.prices) == 1, clients.prices
    workers = [node for node in get("nodes")["items"] if not node["spec"].get("taints")]
    assert len(nodes) == len(workers), f"the pods are on {sorted(nodes)} only"
