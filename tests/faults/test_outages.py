"""A component is away during a drain of all batches, from each stage on. No batch is lost, and no hand is needed.

MinIO and MLflow stay away until the run has failed or ended, so an outage is longer than a stage waits. PostgreSQL also
has Airflow's own database, and without its scheduler Airflow starts nothing; these two stay away for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ci.common.console import say
from ci.common.kube import PLATFORM, kube
from ci.deploy import platform, runs
from ci.deploy.runs import RunResult

from .conftest import NUMBERS
from .drains import await_stage, drain_and_check, install_empty

pytestmark = pytest.mark.e2e

WORKLOADS = {
    "minio": "statefulset/minio",
    "mlflow": "deployment/mlflow",
    "postgres": "statefulset/postgres",
    "airflow-scheduler": "deployment/airflow-scheduler",
}
WITHOUT_AIRFLOW = ("postgres", "airflow-scheduler")
SECONDS_AWAY = 60  # of a component without which Airflow does not work
WAIT_SECONDS = 10  # that a stage waits for a component
STAGES = ("fetch", "validate", "split", "decide", "train", "evaluate")  # the outage begins here, one for each batch


@contextmanager
def away(component: str) -> Iterator[None]:
    """Stops a component for the block. Afterwards the whole platform is Ready again."""
    workload = WORKLOADS[component]
    kube("-n", PLATFORM, "scale", workload, "--replicas=0")
    try:
        label = f"app.kubernetes.io/name={component}"
        kube("-n", PLATFORM, "wait", "--for=delete", "pod", "-l", label, "--timeout=120s", timeout=150)
        yield
    finally:
        kube("-n", PLATFORM, "scale", workload, "--replicas=1")
        platform.wait_ready()


def disturbed_run(component: str, stage: str) -> RunResult:
    """Do a run during which a component goes away when the stage begins."""
    with runs.airflow() as client:
        client.wait_for_dag()
        run_id = client.trigger()
        if not await_stage(client, run_id, stage):
            return client.follow(run_id)
        with away(component):
            if component in WITHOUT_AIRFLOW:
                time.sleep(SECONDS_AWAY)
            else:
                client.follow(run_id, 1200)
    with runs.airflow() as client:  # its tunnel may have ended
        return client.follow(run_id, 1200)


@pytest.mark.parametrize("component", WORKLOADS)
def test_outage_from_any_stage_on_loses_no_batch(undisturbed: str, source: str, component: str) -> None:
    install_empty(source, componentWaitSeconds=WAIT_SECONDS)
    for stage in STAGES:
        ended = disturbed_run(component, stage)
        failed = "; ".join(f"{task.name}: {task.summary}" for task in ended.tasks if task.state == "failed")
        say(f"| {component} | {stage} | {ended.state} | {ended.seconds:.0f} s | {failed or '-'} |")
    drain_and_check(NUMBERS, undisturbed, component)
