"""The pod of each stage is killed once, and the scheduler: nothing is lost or done twice, and no hand is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from ci import runs
from ci.console import say, wait_for
from ci.kube import JOBS, PLATFORM, get, kube
from ci.runs import Airflow
from pipeline import STAGES
from tests.gitops.clients import Clients
from tests.gitops.data import ledger, versions

from .conftest import BATCHES

pytestmark = pytest.mark.e2e

UNDER_WAY = 1.0  # seconds after its container is seen, a stage is at work; the shortest takes some two and a half


def running() -> dict[str, str]:
    """Stages whose container runs at present, and the names of their pods."""
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["name"]
        for pod in get("-n", JOBS, "pods", "-l", "app.kubernetes.io/name=pipeline")["items"]
        if any("running" in box["state"] for box in pod["status"].get("containerStatuses", []))
    }


def kill(namespace: str, pod: str) -> None:
    """End a pod at once, as a lost node does: nothing in it gets to clean up."""
    kube("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")


@contextmanager
def at_work(stages: set[str], deed: Callable[[str], None]) -> Iterator[list[str]]:
    """Do `deed` to the pod of each of the stages once, the first time that it is seen at work.

    Yields the stages that were met so far, in their order.
    """
    end, met = threading.Event(), list[str]()

    def watch() -> None:
        while set(met) < stages and not end.wait(0.1):
            for stage, pod in running().items():
                if stage in stages and stage not in met:
                    time.sleep(UNDER_WAY)
                    say(f"  {stage:<9} is at work in {pod}")
                    deed(pod)
                    met.append(stage)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield met
        finally:
            end.set()
        watching.result(60)


def test_stage_whose_pod_is_killed_is_taken_up_again(airflow: Airflow) -> None:
    stages = {stage.name for stage in STAGES} - {"reject"}  # the first champion has no rival
    with at_work(stages, partial(kill, JOBS)) as met:
        ended = runs.run_once(airflow)
    assert set(met) == stages
    assert {task.name: task.state for task in ended.tasks if task.name != "reject"} == dict.fromkeys(stages, "success")
    attempts = {task["task_id"]: task["try_number"] for task in airflow.tasks(ended.run_id)}
    say(f"green after {ended.seconds:.0f} s with tries {attempts}")
    assert min(attempts[stage] for stage in stages) > 1, "a stage had ended before it was killed"
    for table in ("decisions", "trainings", "promotions"):
        assert ledger(f"select count(*) from ledger.{table}") == [["1"]], table  # noqa: S608
    assert versions() == {"versions": 1, "champion": 1}


def test_run_goes_on_after_its_scheduler_is_killed(airflow: Airflow) -> None:
    def scheduler() -> str:
        found = get("-n", PLATFORM, "pods", "-l", "app.kubernetes.io/name=airflow-scheduler")["items"]
        return str(found[0]["metadata"]["name"])

    def trainings() -> int:
        return int(ledger("select count(*) from ledger.trainings")[0][0])

    before, trained = scheduler(), trainings()
    with Clients(threads=2) as clients, at_work({"train"}, lambda _: kill(PLATFORM, before)) as met:
        ended = runs.run_once(airflow)
    say(f"green after {ended.seconds:.0f} s; {clients}")
    assert met == ["train"]
    assert scheduler() != before
    assert clients.failures == []
    assert trainings() == trained + 1


def test_rejection_whose_pod_is_killed_is_taken_up_again(airflow: Airflow) -> None:
    before = versions()
    with at_work({"reject"}, partial(kill, JOBS)) as met:
        ended = runs.run_once(airflow)
    assert met == ["reject"]
    [attempt] = [task["try_number"] for task in airflow.tasks(ended.run_id) if task["task_id"] == "reject"]
    say(f"green after {ended.seconds:.0f} s, reject at try {attempt}")
    assert attempt > 1, "it had ended before it was killed"
    assert versions() == {"versions": before["versions"] + 1, "champion": before["champion"]}
    assert ledger("select count(*) from ledger.promotions where promoted") == [["1"]]


def test_nothing_is_lost_and_nothing_counted_twice(airflow: Airflow) -> None:
    ended = runs.drain(airflow)
    say(f"drained in {len(ended)} more runs")
    assert ledger("select count(*) from ledger.gaps") == [["0"]]
    stored = ledger("select batch_number, count(*) from ledger.batches group by 1 order by 1")
    assert stored == [[str(number), "1"] for number in BATCHES]
    wrong = "select batch_number from ledger.batches where rows <> valid + quarantined + duplicates or state <> 'used'"
    assert ledger(wrong) == []
    trained = ledger("select count(*), count(distinct run_id) from ledger.trainings")
    assert trained == [[str(len(BATCHES))] * 2]
    wait_for("no pod of a stage is left", lambda: not get("-n", JOBS, "pods")["items"], 60)
