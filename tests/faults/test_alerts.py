"""Each fault becomes a notification that arrives at a receiver within five minutes. Its end arrives after the repair.

Faults that do not cause each other's alerts are injected together, because most of the time is waiting.

The receiver is a pod in the cluster, so its address is in the pod network. A network plugin that applies `ipBlock` only
to addresses outside of the cluster (Cilium) would stop the notifications.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from ci.common.console import Failure, say, wait_for
from ci.common.kube import PLATFORM, forward
from ci.deploy import platform, runs, workloads
from ci.doctor.rendered import requirements

from .outages import away
from .receiver import PORT, Notice, Receiver, receiver

pytestmark = pytest.mark.e2e

ARRIVAL = 300  # seconds from the fault to the notification
END = 420  # seconds from the repair to the notification of the end: rates over three minutes, then group_interval
LOOKS_BACK = 2400  # the same for an alert about the last half hour
EARLIER = 600  # seconds that an alert of an earlier fault may take to end
HEARTBEATS = 420  # seconds within which two calls of the dead man's switch arrive
CONFIG = "monitoring.alertmanager.receivers"


@dataclass(frozen=True)
class Fault:
    """A workload to scale to 0, and the alert that this causes. `job` is its label, if the alert has several jobs."""

    workload: str
    alert: str
    job: str = ""


TOGETHER = {
    "services": (
        Fault("deployment/fastapi", "PredictorDown"),
        Fault("deployment/mlflow", "ComponentDown", "mlflow"),
        Fault("deployment/streamlit", "ComponentDown", "streamlit"),
        Fault("deployment/datasource", "ComponentDown", "datasource"),
        Fault("deployment/postgres-exporter", "ComponentDown", "postgres-exporter"),
    ),
    "airflow": (
        Fault("deployment/airflow-scheduler", "SchedulerHeartbeatMissing"),
        Fault("deployment/airflow-dag-processor", "DagProcessorHeartbeatMissing"),
        Fault("deployment/airflow-api", "AirflowApiDown"),
    ),
    "stores": (Fault("statefulset/minio", "MinioDown"), Fault("statefulset/postgres", "PostgresDown")),
}
FAILED_RUN = Fault("", "PipelineRunFailed")


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


def arrivals(
    pod: Receiver, status: str, faults: tuple[Fault, ...], seen: int, began: float, limit: float
) -> dict[Fault, float]:
    """Wait for a notification about each fault with this status, after the first `seen` ones.

    Returns the seconds of each arrival since `began`. Fails with the missing alerts `limit` seconds after `began`.
    """
    arrived: dict[Fault, float] = {}

    def matches(notice: Notice, fault: Fault) -> bool:
        return (notice.alert, notice.status) == (fault.alert, status) and fault.job in ("", notice.labels.get("job"))

    def complete() -> bool:
        new = pod.notices("team")[seen:]
        for fault in faults:
            if fault not in arrived and any(matches(notice, fault) for notice in new):
                arrived[fault] = time.monotonic() - began
        return len(arrived) == len(faults)

    try:
        wait_for("notifications", complete, limit - (time.monotonic() - began), every=2)
    except Failure:
        missing = ", ".join(f"{fault.alert} {fault.job}".strip() for fault in faults if fault not in arrived)
        pytest.fail(f"no notification ({status}) within {limit:.0f} s about {missing}")
    return arrived


@pytest.mark.timeout(2400)
def test_failed_run_arrives(notifications: Receiver) -> None:
    with away("statefulset/minio"), runs.airflow() as client:
        client.wait_for_dag()
        assert client.follow(client.trigger(), 1200).state == "failed"
        begun = arrivals(notifications, "firing", (FAILED_RUN,), 0, time.monotonic(), ARRIVAL)
    say(f"| a failed run | {FAILED_RUN.alert} | {begun[FAILED_RUN]:.0f} s | tested last |")


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("faults", TOGETHER.values(), ids=TOGETHER)
def test_faults_and_their_ends_arrive(notifications: Receiver, faults: tuple[Fault, ...]) -> None:
    wait_for("the end of earlier alerts", lambda: not any(firing(one.alert, one.job) for one in faults), EARLIER, 10)
    seen, began = len(notifications.notices("team")), time.monotonic()
    with away(*(fault.workload for fault in faults)):
        begun = arrivals(notifications, "firing", faults, seen, began, ARRIVAL)
    ended = arrivals(notifications, "resolved", faults, seen, time.monotonic(), END)
    for fault in faults:
        say(f"| {fault.workload} | {fault.alert} | {begun[fault]:.0f} s | {ended[fault]:.0f} s |")


def test_watchdog_calls_the_heartbeat_again_and_again_and_nobody_else(notifications: Receiver) -> None:
    before = len(notifications.notices("heartbeat"))
    wait_for("two heartbeats", lambda: len(notifications.notices("heartbeat")) >= before + 2, HEARTBEATS, every=5)
    assert {one.alert for one in notifications.notices("heartbeat")} == {"Watchdog"}
    assert "Watchdog" not in {one.alert for one in notifications.notices("team")}


@pytest.mark.timeout(3000)
def test_end_of_failed_run_arrives(notifications: Receiver) -> None:
    arrivals(notifications, "resolved", (FAILED_RUN,), 0, time.monotonic(), LOOKS_BACK)
