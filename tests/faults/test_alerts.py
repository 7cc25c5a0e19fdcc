"""Each fault becomes a notification that arrives at a receiver within five minutes. Its end arrives after the repair.

The receiver is a pod in the cluster, so its address is in the pod network. A network plugin that applies `ipBlock` only
to addresses outside of the cluster (Cilium) would stop the notifications.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, forward
from ci.deploy import platform, runs, workloads
from ci.doctor.rendered import requirements

from .outages import away
from .receiver import PORT, Notice, Receiver, receiver

pytestmark = pytest.mark.e2e

ARRIVAL = 300  # seconds from the fault to the notification
END = 420  # seconds from the repair to the notification of the end: rates over three minutes, then group_interval
LOOKS_BACK = 2400  # the same for an alert about the last half hour
HEARTBEATS = 420  # seconds within which two calls of the dead man's switch arrive
CONFIG = "monitoring.alertmanager.receivers"


@dataclass(frozen=True)
class Fault:
    """A workload to scale to 0, and the alert that this causes. `job` is its label, if the alert has several jobs."""

    workload: str
    alert: str
    job: str = ""


FAULTS = (
    Fault("deployment/fastapi", "PredictorDown"),
    Fault("statefulset/minio", "MinioDown"),
    Fault("statefulset/postgres", "PostgresDown"),
    Fault("deployment/mlflow", "ComponentDown", "mlflow"),
    Fault("deployment/streamlit", "ComponentDown", "streamlit"),
    Fault("deployment/datasource", "ComponentDown", "datasource"),
    Fault("deployment/postgres-exporter", "ComponentDown", "postgres-exporter"),
    Fault("deployment/airflow-scheduler", "SchedulerHeartbeatMissing"),
    Fault("deployment/airflow-dag-processor", "DagProcessorHeartbeatMissing"),
    Fault("deployment/airflow-api", "AirflowApiDown"),
)


@pytest.fixture(scope="module")
def notifications() -> Iterator[Receiver]:
    """The receiver of a freshly installed platform that has a champion and sends it every alert and the heartbeat."""
    platform.remove()
    [image] = [name for name in requirements("kind").images if "/pipeline:" in name]
    with receiver(image) as pod, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALERT_WEBHOOK_URL", pod.url("team"))
        patch.setenv("ALERT_HEARTBEAT_URL", pod.url("heartbeat"))
        values = [
            f"{CONFIG}.{name}.{key}" for name in ("webhook", "heartbeat") for key in ("enabled=true", f"port={PORT}")
        ]
        wait = "airflow.pipeline.config.componentWaitSeconds=10"
        platform.install("kind", [*values, wait, f"global.notifications.cidr={pod.address}/32"])
        workloads.wait_ready()
        with runs.airflow() as client:
            runs.run_once(client)
        yield pod


def firing(alert: str, job: str) -> bool:
    """Whether Prometheus has this alert, as pending or firing."""
    with forward(PLATFORM, "service/prometheus", 9090) as url:
        active = httpx.get(f"{url}/api/v1/alerts", timeout=20).json()["data"]["alerts"]
    labels = [one["labels"] for one in active]
    return any(own["alertname"] == alert and job in ("", own.get("job")) for own in labels)


def awaiting(pod: Receiver, alert: str, job: str) -> Callable[[str, float], float]:
    """A function that waits for a new notification about an alert with this status; it returns the seconds."""
    before = len(pod.notices("team"))

    def matches(notice: Notice, status: str) -> bool:
        return (notice.alert, notice.status) == (alert, status) and job in ("", notice.labels.get("job"))

    def arrival(status: str, seconds: float) -> float:
        began = time.monotonic()
        what = f"a notification about {alert} {job} ({status})"
        wait_for(what, lambda: any(matches(one, status) for one in pod.notices("team")[before:]), seconds, every=2)
        return time.monotonic() - began

    return arrival


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.workload.partition("/")[2])
def test_fault_and_its_end_arrive(notifications: Receiver, fault: Fault) -> None:
    wait_for(f"the end of an earlier {fault.alert}", lambda: not firing(fault.alert, fault.job), 600, every=10)
    arrival = awaiting(notifications, fault.alert, fault.job)
    with away(fault.workload):
        begun = arrival("firing", ARRIVAL)
    ended = arrival("resolved", END)
    say(f"| {fault.workload} | {fault.alert} | {begun:.0f} s | {ended:.0f} s |")


@pytest.mark.timeout(4800)
def test_failed_run_and_its_end_arrive(notifications: Receiver) -> None:
    arrival = awaiting(notifications, "PipelineRunFailed", "")
    with away("statefulset/minio"), runs.airflow() as client:
        client.wait_for_dag()
        assert client.follow(client.trigger(), 1200).state == "failed"
        begun = arrival("firing", ARRIVAL)
    ended = arrival("resolved", LOOKS_BACK)
    say(f"| failed run | PipelineRunFailed | {begun:.0f} s | {ended:.0f} s |")


def test_watchdog_calls_the_heartbeat_again_and_again_and_nobody_else(notifications: Receiver) -> None:
    before = len(notifications.notices("heartbeat"))
    wait_for("two heartbeats", lambda: len(notifications.notices("heartbeat")) >= before + 2, HEARTBEATS, every=5)
    assert {one.alert for one in notifications.notices("heartbeat")} == {"Watchdog"}
    assert "Watchdog" not in {one.alert for one in notifications.notices("team")}
