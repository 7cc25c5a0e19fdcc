"""The platform recovers by itself while nodes are drained, killed and restarted under load and a pipeline run.

Each test prints the action, the seconds until everything was Ready again, and the results of the clients.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ci.cluster import docker, settings
from ci.cluster.choice import choose
from ci.common.console import say, wait_for
from ci.common.kube import JOBS, PLATFORM, environment, get, kube, kubectl
from ci.deploy import runs, up, workloads
from tests.kit.clients import Clients
from tests.kit.reachability import DNS, expected

from . import probes
from .conftest import Fed

pytestmark = pytest.mark.e2e
ENGINE = docker.choose()
CLIENT_PAUSE = 0.05


def workers() -> list[str]:
    """Names of the workers; at least two, because pods on the only worker cannot move."""
    names = sorted(node["metadata"]["name"] for node in get("nodes")["items"])
    names.remove(settings.CONTROL_PLANE)
    assert len(names) >= 2, f"these tests need two workers: NODES=3 make cluster ({names})"
    return names


def is_ready(node: str) -> bool:
    """True if the node is Ready."""
    conditions = get("node", node)["status"]["conditions"]
    return {one["type"]: one["status"] for one in conditions}["Ready"] == "True"


def all_ready() -> bool:
    """True if every node and every workload of the platform is ready."""
    return all(is_ready(node["metadata"]["name"]) for node in get("nodes")["items"]) and not workloads.late_workloads()


def await_all(seconds: float) -> float:
    """Wait until everything is ready; returns the seconds that this took."""
    began = time.monotonic()
    wait_for("nodes and platform", all_ready, seconds, every=1)
    return time.monotonic() - began


def places() -> dict[str, list[str]]:
    """Nodes of the running pods of each component."""
    nodes: dict[str, list[str]] = {}
    for pod in workloads.pods():
        name = pod["metadata"]["labels"].get("app.kubernetes.io/name")
        if name and pod["status"]["phase"] == "Running":
            nodes.setdefault(name, []).append(pod["spec"]["nodeName"])
    return nodes


def spread_again() -> None:
    """Spread the predictor's pods over two nodes again. After a drain both are on the remaining node."""
    if len(set(places()["fastapi"])) < 2:
        kube("-n", PLATFORM, "rollout", "restart", "deployment/fastapi")
        kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)
        wait_for("predictors on two nodes", lambda: len(set(places()["fastapi"])) == 2, 60, every=1)


@contextmanager
def drained(worker: str) -> Iterator[tuple[float, str]]:
    """Drain a worker, and uncordon it when the block ends; yields the seconds that the drain took, and its messages."""
    began = time.monotonic()
    # --force evicts a stage: its pod has no controller, because Airflow creates it again
    command = [kubectl(), "drain", worker, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=200)
    try:
        assert done.returncode == 0, f"{done.stdout[-1000:]}{done.stderr[-1000:]}"
        yield time.monotonic() - began, done.stdout + done.stderr
    finally:
        kube("uncordon", worker)


@contextmanager
def cordoned(nodes: list[str]) -> Iterator[None]:
    """New pods start on other nodes until the block ends."""
    try:
        for node in nodes:
            kube("cordon", node)
        yield
    finally:
        for node in nodes:
            kube("uncordon", node)


def running_stages(node: str) -> list[str]:
    """Names of the stages that run on the node."""
    pods = get("-n", JOBS, "pods", "-l", "app.kubernetes.io/name=pipeline")["items"]
    on_it = [pod for pod in pods if pod["spec"].get("nodeName") == node and pod["status"]["phase"] == "Running"]
    return [pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in on_it]


def spread_dns() -> None:
    """Spread CoreDNS over two nodes: after a drain both pods may be on one node, and no name resolves if it dies."""

    def pods() -> list[dict[str, Any]]:
        items = get("-n", "kube-system", "pods", "-l", "k8s-app=kube-dns")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def nodes() -> set[str]:
        return {pod["spec"].get("nodeName", "") for pod in pods()}

    if len(nodes()) > 1:
        return
    with cordoned(sorted(nodes())):
        kube("-n", "kube-system", "delete", "pod", pods()[0]["metadata"]["name"], "--wait=true")
        kube("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s", timeout=150)
    assert len(nodes()) == 2, pods()


def test_pods_with_replicas_are_on_two_nodes(fed: Fed) -> None:
    spread_again()
    assert len(set(places()["fastapi"])) == 2, places()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_drained_worker_fails_no_request_and_no_pipeline_run(fed: Fed, number: int) -> None:
    """A running stage starts again on another node. A store waits for its volume. Predictions continue."""
    worker = workers()[number]
    await_all(300)
    spread_again()
    on_it = sorted(name for name, nodes in places().items() if worker in nodes)
    with runs.airflow() as airflow, Clients(pause=CLIENT_PAUSE) as clients:
        with cordoned([other for other in workers() if other != worker]):
            run = airflow.trigger()
            wait_for(f"a stage on {worker}", lambda: bool(running_stages(worker)), 120, every=0.2)
            stages = running_stages(worker)
        with drained(worker) as (seconds, evicted):
            time.sleep(20)
        recovered = await_all(300)
    with runs.airflow() as airflow:
        wait_for("the end of the run", lambda: airflow.state(run) in ("success", "failed"), 600, every=2)
        state = airflow.state(run)
    say(f"drain {worker} ({', '.join([*on_it, *stages])}): {seconds:.0f} s; all Ready {recovered:.0f} s after "
        f"uncordon; run {state}; {clients}")  # fmt: skip
    assert f"evicting pod {JOBS}/pipeline-" in evicted, evicted
    assert clients.failures == []
    assert state == "success"


@pytest.mark.timeout(1500)
def test_the_platform_recovers_from_a_killed_worker(fed: Fed) -> None:
    """Requests in flight to the dead node may fail. None fails 20 s after Kubernetes marks the node as not Ready."""
    worker = workers()[-1]
    await_all(300)
    spread_again()
    spread_dns()
    with Clients(pause=CLIENT_PAUSE) as clients:
        time.sleep(5)
        ENGINE.run("kill", worker)
        killed = time.monotonic()
        try:
            wait_for(f"{worker} to be not Ready", lambda: not is_ready(worker), 120, every=0.5)
            detected = time.monotonic() - killed
            time.sleep(20)  # requests in flight end by their time limits, and every node has the new endpoints
            in_flight = len(clients.failures)
            time.sleep(40)
            late = clients.failures[in_flight:]
        finally:
            ENGINE.run("start", worker)
        recovered = await_all(400)
    say(f"kill {worker}: not Ready after {detected:.0f} s; all Ready {recovered:.0f} s after its start; {clients}; "
        f"{clients.failures[:2]}")  # fmt: skip
    assert late == []
    assert up.predict()["price"]


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_platform_recovers_from_a_killed_control_plane(fed: Fed) -> None:
    """Pods on the workers keep running, and no request of clients in the cluster fails."""
    await_all(300)
    kept = [pod for pod in workloads.pods() if "deletionTimestamp" not in pod["metadata"]]
    staying = [pod for pod in kept if pod["spec"]["nodeName"] != settings.CONTROL_PLANE]
    before = {pod["metadata"]["name"]: sum(box["restartCount"] for box in pod["status"]["containerStatuses"])
              for pod in staying}  # fmt: skip
    with Clients(pause=CLIENT_PAUSE, node=workers()[0], seconds=90) as clients:
        time.sleep(5)
        ENGINE.run("kill", settings.CONTROL_PLANE)
        time.sleep(10)
        ENGINE.run("start", settings.CONTROL_PLANE)
        began = time.monotonic()
        wait_for("the API server", lambda: kube("get", "--raw", "/readyz", check=False) == "ok", 120, every=0.5)
        answered = time.monotonic() - began
        recovered = await_all(300)
    say(f"kill control plane: API {answered:.0f} s, all Ready {answered + recovered:.0f} s after its start; {clients}")
    assert clients.failures == []
    after = {pod["metadata"]["name"]: sum(box["restartCount"] for box in pod["status"]["containerStatuses"])
             for pod in workloads.pods()}  # fmt: skip
    # programs with a leader lease may restart; programs that answer clients may not
    for name in before:
        if name.startswith(("fastapi", "streamlit", "mlflow", "postgres", "minio")):
            assert after.get(name) == before[name], name


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_platform_survives_a_restart_of_docker(fed: Fed) -> None:
    """Like after a restart of the machine: Docker may give the nodes other addresses, and the platform works again."""
    await_all(300)
    version = up.predict()["model_version"]
    cluster = choose()
    before = {node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in get("nodes")["items"]}
    cluster.stop()
    began = time.monotonic()
    cluster.start()
    recovered = await_all(400)
    after = {node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in get("nodes")["items"]}
    say(f"stop and start of all nodes: all Ready {time.monotonic() - began:.0f} s after the start began "
        f"({recovered:.0f} s after the nodes); addresses {json.dumps(before)}, then {json.dumps(after)}")  # fmt: skip
    assert up.predict()["model_version"] == version
    with runs.airflow() as airflow:
        assert runs.run_once(airflow).state == "success"
    assert get("-n", PLATFORM, "pods")["items"]


def test_afterwards_every_node_reaches_every_service(fed: Fed) -> None:
    """Names and addresses of Services lead to their pods from each node, after all that happened to the nodes."""
    await_all(300)
    callers, targets = probes.clients(), probes.services()
    targets[DNS] = probes.dns()
    nodes = [*workers(), settings.CONTROL_PLANE]
    wanted = {
        f"{client} on {node}": expected(client, set(targets)) for node in nodes for client in ("pipeline", "prometheus")
    }
    pods = [
        probes.pod(name, *callers[name.partition(" ")[0]], targets, wanted[name], name.rpartition(" ")[2])
        for name in wanted
    ]
    with probes.ended(pods) as reached:
        missing = {name: sorted(wanted[name] - reached[name]) for name in wanted}
    say(f"{len(nodes)} nodes, {len(targets)} targets: {sum(len(one) for one in reached.values())} connections")
    assert not any(missing.values()), missing
