"""A component is away during a drain of all batches, from each stage on. No batch is lost, and no hand is needed.

MinIO and MLflow stay away until the run has failed or ended, so an outage is longer than a stage waits. PostgreSQL also
has Airflow's own database, and without its scheduler Airflow starts nothing; these two stay away for a minute.
The last test has the default waits: MLflow is away for ten minutes, and the stage waits for it.
"""

from __future__ import annotations

import time

import pytest

from ci.common.console import say
from ci.deploy import runs
from ci.deploy.runs import RunResult

from .conftest import NUMBERS
from .drains import await_stage, drain_and_check, install_empty
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
TEN_MINUTES = 600  # seconds
STAGES = ("fetch", "validate", "split", "decide", "train", "evaluate")  # the outage begins here, one for each batch


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
def test_outage_from_any_stage_on_loses_no_batch(undisturbed: str, source: str, component: str) -> None:
    install_empty(source, componentWaitSeconds=WAIT_SECONDS)
    for stage in STAGES:
        begun = time.monotonic()
        ended = disturbed_run(component, stage)
        failed = "; ".join(f"{task.name}: {task.summary}" for task in ended.tasks if task.state == "failed")
        say(f"| {component} | {stage} | {ended.state} | {time.monotonic() - begun:.0f} s | {failed or '-'} |")
    drain_and_check(NUMBERS, undisturbed, component)


@pytest.mark.timeout(3600)
def test_ten_minutes_without_mlflow_after_the_last_decision_only_delay_the_run(undisturbed: str, source: str) -> None:
    install_empty(source)  # a stage waits for a component as long as in production
    with runs.airflow() as client:
        for _ in NUMBERS[:-1]:
            runs.run_once(client)
        run_id = client.trigger()
        assert await_stage(client, run_id, "train")
        with away(WORKLOADS["mlflow"]):
            time.sleep(TEN_MINUTES)
        ended = client.follow(run_id, 1200)
    say(f"| mlflow | 10 min from train on | {ended.state} | {ended.seconds:.0f} s after its return | - |")
    assert ended.state == "success"
    drain_and_check(NUMBERS, undisturbed, "mlflow, 10 min")
