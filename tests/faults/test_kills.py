"""Kills the pod of each stage once, and the scheduler. No work is lost or done twice, and no manual step is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from ci.common.console import say, wait_for
from ci.common.kube import JOBS, PLATFORM, get, kube
from ci.deploy import runs
from ci.deploy.runs import Airflow
from pipeline import STAGES
from tests.kit.clients import Clients
from tests.kit.platform_data import ledger, versions

from .conftest import BATCHES

pytestmark = pytest.mark.e2e

WORKING_AFTER = 1.0  # seconds from the start of a container until its stage works; the shortest takes some 2.5 s


def running() -> dict[str, str]:
    """Stages whose container is running, and the names of their pods."""
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["name"]
        for pod in get("-n", JOBS, "pods", "-l", "app.kubernetes.io/name=pipeline")["items"]
        if any("running" in container["state"] for container in pod["status"].get("containerStatuses", []))
    }


def kill(namespace: str, pod: str) -> None:
    """Delete a pod without a grace period, like the loss of its node: its processes cannot clean up."""
    kube("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")


@contextmanager
def at_work(stages: set[str], action: Callable[[str], None]) -> Iterator[list[str]]:
    """Call `action` with the pod of each stage once, when the stage is first seen at work.

    Yields the stages for which that happened, in order.
    """
    end, seen = threading.Event(), list[str]()

    def watch() -> None:
        while set(seen) < stages and not end.wait(0.1):
            for stage, pod in running().items():
                if stage in stages and stage not in seen:
                    time.sleep(WORKING_AFTER)
                    say(f"  {stage:<9} is at work in {pod}")
                    action(pod)
                    seen.append(stage)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield seen
        finally:
            end.set()
        watching.result(60)


def test_stage_whose_pod_is_killed_is_retried(airflow: Airflow) -> None:
    stages = {stage.name for stage in STAGES} - {"reject"}  # the first model has no champion to compare with
    with at_work(stages, partial(kill, JOBS)) as stages_seen:
        ended = runs.run_once(airflow)
    assert set(stages_seen) == stages
    assert {task.name: task.state for task in ended.tasks if task.name != "reject"} == dict.fromkeys(stages, "success")
    attempts = {task["task_id"]: task["try_number"] for task in airflow.tasks(ended.run_id)}
    say(f"green after {ended.seconds:.0f} s with tries {attempts}")
    assert min(attempts[stage] for stage in stages) > 1, "a stage ended before its pod was killed"
    for table in ("decisions", "trainings", "promotions"):
        assert ledger(f"select count(*) from ledger.{table}") == [["1"]], table  # noqa: S608
    assert versions() == {"versions": 1, "champion": 1}


def test_run_continues_after_the_scheduler_is_killed(airflow: Airflow) -> None:
    def scheduler() -> str:
        pods = get("-n", PLATFORM, "pods", "-l", "app.kubernetes.io/name=airflow-scheduler")["items"]
        return str(pods[0]["metadata"]["name"])

    def trainings() -> int:
        return int(ledger("select count(*) from ledger.trainings")[0][0])

    before, trained = scheduler(), trainings()
    with Clients(threads=2) as clients, at_work({"train"}, lambda _: kill(PLATFORM, before)) as stages_seen:
        ended = runs.run_once(airflow)
    say(f"green after {ended.seconds:.0f} s; {clients}")
    assert stages_seen == ["train"]
    assert scheduler() != before
    assert clients.failures == []
    assert trainings() == trained + 1


def test_rejection_whose_pod_is_killed_is_retried(airflow: Airflow) -> None:
    before = versions()
    with at_work({"reject"}, partial(kill, JOBS)) as stages_seen:
        ended = runs.run_once(airflow)
    assert stages_seen == ["reject"]
    [attempt] = [task["try_number"] for task in airflow.tasks(ended.run_id) if task["task_id"] == "reject"]
    say(f"green after {ended.seconds:.0f} s, reject at try {attempt}")
    assert attempt > 1, "the stage ended before its pod was killed"
    assert versions() == {"versions": before["versions"] + 1, "champion": before["champion"]}
    assert ledger("select count(*) from ledger.promotions where promoted") == [["1"]]


def test_no_batch_is_lost_or_counted_twice(airflow: Airflow) -> None:
    ended = runs.drain(airflow)
    say(f"drained in {len(ended)} more runs")
    assert ledger("select count(*) from ledger.gaps") == [["0"]]
    stored = ledger("select batch_number, count(*) from ledger.batches group by 1 order by 1")
    assert stored == [[str(number), "1"] for number in BATCHES]
    wrong = "select batch_number from ledger.batches where rows <> valid + quarantined + duplicates or state <> 'used'"
    assert ledger(wrong) == []
    trained = ledger("select count(*), count(distinct run_id) from ledger.trainings")
    assert trained == [[str(len(BATCHES))] * 2]
    wait_for("the removal of all stage pods", lambda: not get("-n", JOBS, "pods")["items"], 60)
