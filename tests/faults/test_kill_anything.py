"""Everything is killed with SIGKILL: each container of the platform once, then all nodes in the middle of each stage.

After a power loss the nodes start again with their disks. Data that the machine's kernel has not yet written to its
disk is not lost here, unlike in a real power loss.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from ci.cluster import docker
from ci.cluster.choice import choose
from ci.cluster.containers import nodes
from ci.common.console import Failure, say, wait_for
from ci.common.kube import PLATFORM, get
from ci.deploy import runs, up, workloads
from tests.kit.clients import Clients

from .conftest import NUMBERS
from .drains import await_stage, drain_and_check, install_empty, restart

pytestmark = pytest.mark.e2e

PREDICTOR = "fastapi"  # requests to a killed predictor may fail
POWER_LOSSES = (("fetch", "train"), ("validate", "evaluate"), ("split", "promote"), ("decide", "report"))  # by run


@dataclass(frozen=True)
class Container:
    """A running container of a pod that a controller keeps running."""

    pod: str
    name: str
    component: str
    node: str
    container_id: str
    restarts: int


def containers() -> list[Container]:
    """All containers of the platform, sorted by their pods."""
    return sorted(
        (
            Container(
                pod["metadata"]["name"], status["name"], pod["metadata"]["labels"]["app.kubernetes.io/name"],
                pod["spec"]["nodeName"], status["containerID"].partition("://")[2], status["restartCount"],
            )
            for pod in get("-n", PLATFORM, "pods", "--field-selector=status.phase=Running")["items"]
            if "ownerReferences" in pod["metadata"]
            for status in pod["status"]["containerStatuses"]
        ),
        key=lambda one: (one.pod, one.name),
    )  # fmt: skip


def kill(container: Container) -> float:
    """Kill a container's processes; returns the seconds until it has restarted and the whole platform is Ready."""
    began = time.monotonic()
    docker.choose().run("exec", container.node, "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL",
                        container.container_id)  # fmt: skip

    def recovered() -> bool:
        now = [one for one in containers() if (one.pod, one.name) == (container.pod, container.name)]
        return bool(now) and now[0].restarts > container.restarts and not workloads.late_workloads()

    wait_for(f"{container.pod}/{container.name}", recovered, 420, every=1)
    return time.monotonic() - began


@contextmanager
def pipeline_at_work(source: str) -> Iterator[list[str]]:
    """Do one run after another until the block ends. Yields the results so far; a run may fail."""
    end, results = threading.Event(), list[str]()

    def work() -> None:
        while not end.is_set():
            try:
                with runs.airflow() as client:
                    client.wait_for_dag()
                    ended = client.follow(client.trigger(), 900)
                    results.append(ended.state)
                    if ended.end_of_data:
                        restart(source)
            except (Failure, httpx.HTTPError, OSError) as error:  # Airflow was killed
                results.append(f"Airflow did not answer: {str(error)[:80]}")
                time.sleep(2)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        end.set()
        thread.join(900)


@pytest.mark.timeout(3600)
def test_every_container_recovers_and_nothing_is_lost(undisturbed: str, source: str) -> None:
    install_empty(source)
    with runs.airflow() as client:
        runs.run_once(client)
    failed_before, wrong = 0, list[str]()
    with Clients() as clients, pipeline_at_work(source) as results:
        for container in containers():
            seconds = kill(container)
            time.sleep(3)  # for the counts of the clients
            failed, failed_before = len(clients.failures) - failed_before, len(clients.failures)
            say(f"| {container.pod} | {container.name} | {seconds:.0f} s | {failed} requests failed |")
            if failed and container.component != PREDICTOR:
                wrong.append(f"{container.pod}/{container.name}: {failed}")
    say(f"{clients}; pipeline runs: {results}")
    assert wrong == [], "requests failed although no predictor was killed"
    assert "success" in results, "the pipeline did not work during the test"
    drain_and_check(NUMBERS, undisturbed, "each container once")
    assert up.predict()["price"]


def lose_power() -> float:
    """Kill all nodes at once, and start them again; returns the seconds until the whole platform is Ready."""
    engine = docker.choose()
    engine.run("kill", *nodes(engine))
    began = time.monotonic()
    choose().start()
    workloads.wait_ready()
    return time.monotonic() - began


@pytest.mark.timeout(3600)
def test_a_run_completes_after_power_losses_in_its_stages(undisturbed: str, source: str) -> None:
    install_empty(source)
    for stages in POWER_LOSSES:
        with runs.airflow() as client:
            client.wait_for_dag()
            run_id = client.trigger()
        for stage in stages:
            with runs.airflow() as client:
                assert await_stage(client, run_id, stage), f"the run ended before {stage}"
            seconds = lose_power()
            say(f"| power loss in {stage} | all Ready after {seconds:.0f} s |")
        with runs.airflow() as client:
            ended = client.follow(run_id, 1500)
        say(f"| {', '.join(stages)} | {ended.state} | {ended.seconds:.0f} s |")
        assert ended.state == "success", [task.summary for task in ended.tasks if task.state == "failed"]
    drain_and_check(NUMBERS, undisturbed, "power loss")
    assert up.predict()["price"]
