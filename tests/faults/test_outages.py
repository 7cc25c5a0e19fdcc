"""A component is away during a drain of all batches, from each stage on. No batch is lost, and no hand is needed.

MinIO and MLflow stay away until the run has failed or ended, so an outage is longer than a stage waits. PostgreSQL also
has Airflow's own database, and without its scheduler Airflow starts nothing; these two stay away for a minute.
"""

from __future__ import annotations

import time

import httpx
import pytest

from ci.common.console import say, wait_for
from ci.deploy import platform, runs
from ci.deploy.runs import Airflow, RunResult
from tests.kit import local_datasource
from tests.kit.platform_data import ledger, stored_checksum
from tests.kit.world import WHO

from .conftest import NUMBERS
from .outages import away

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


@pytest.fixture
def values(source: str) -> list[str]:
    """Chart values: every batch is trained on, and stages wait a short time only."""
    config = {"componentWaitSeconds": WAIT_SECONDS, "minBatchRows": 100, "minBatchStates": 1, "minStateShare": 0}
    return [*local_datasource.values(), *(f"airflow.pipeline.config.{name}={value}" for name, value in config.items())]


def await_stage(client: Airflow, run_id: str, stage: str) -> bool:
    """Wait until a stage runs. False if the run ended without it."""

    def reached() -> bool:
        if client.state(run_id) in ("success", "failed"):
            return True
        return any(task["task_id"] == stage and task["state"] == "running" for task in client.tasks(run_id))

    wait_for(f"the stage {stage}", reached, 600, every=0.5)
    return client.state(run_id) not in ("success", "failed")


def disturbed_run(component: str, stage: str) -> RunResult:
    """Do a run during which a component goes away when the stage begins."""
    with runs.airflow() as client:
        client.wait_for_dag()
        run_id = client.trigger()
        if not await_stage(client, run_id, stage):
            return client.follow(run_id)
        with away(WORKLOADS[component]):
            if component in WITHOUT_AIRFLOW:
                time.sleep(SECONDS_AWAY)
            else:
                client.follow(run_id, 1200)
    with runs.airflow() as client:  # its tunnel may have ended
        return client.follow(run_id, 1200)


@pytest.mark.parametrize("component", WORKLOADS)
def test_outage_from_any_stage_on_loses_no_batch(
    undisturbed: str, source: str, values: list[str], component: str
) -> None:
    platform.remove()
    platform.install("kind", values)
    platform.wait_ready()
    httpx.get(f"{source}/restart_data_generation", params=WHO, timeout=20).raise_for_status()
    for stage in STAGES:
        ended = disturbed_run(component, stage)
        failed = "; ".join(f"{task.name}: {task.summary}" for task in ended.tasks if task.state == "failed")
        say(f"| {component} | {stage} | {ended.state} | {ended.seconds:.0f} s | {failed or '-'} |")
    with runs.airflow() as client:
        for ended in runs.drain(client):  # raises if a run fails
            say(f"| {component} | - | {ended.state} | {ended.seconds:.0f} s | {ended.tasks[0].summary} |")
    assert ledger("select batch_number from ledger.gaps") == []
    assert ledger("select batch_number from ledger.batches where state not in ('split', 'used')") == []
    unjudged = (
        "select batch_number from ledger.decisions where decision = 'train' and batch_number not in"
        " (select unnest(batches) from ledger.trainings join ledger.promotions using (run_id))"
    )
    assert ledger(unjudged) == []
    assert [int(number) for [number] in ledger("select distinct batch_number from ledger.batches order by 1")] == list(
        NUMBERS
    )
    assert stored_checksum() == undisturbed
