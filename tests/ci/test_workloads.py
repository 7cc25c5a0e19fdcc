"""Messages about pods and workloads that are not Ready yet."""

from __future__ import annotations

from typing import Any

import pytest

from ci.common.console import Failure
from ci.common.kube import trouble
from ci.deploy import workloads


def pod(phase: str, *boxes: dict[str, Any], ready: bool = False, **status: Any) -> dict[str, Any]:
    """A pod as the API describes it; `boxes` are the states of its containers."""
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(ready)}]
    states = [{"name": "main", "ready": False, "restartCount": 0, "state": box} for box in boxes]
    return {
        "metadata": {"name": "fastapi-1"},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": states} | status,
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


RUNNING = {"running": {"startedAt": "2026-11-01T00:00:00Z"}}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no memory"}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (pod("Running", RUNNING, ready=True), ""),
        (pod("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}), ""),
        (
            pod("Pending", waiting("CreateContainerConfigError", 'secret "fastapi" not found')),
            'main: CreateContainerConfigError secret "fastapi" not found',
        ),
        (
            pod("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')),
            'main: ImagePullBackOff Back-off pulling image "x:1"',
        ),
        (pod("Pending", waiting("ErrImageNeverPull")), "main: ErrImageNeverPull"),
        (pod("Running", waiting("CrashLoopBackOff", "back-off 40s")), "main: CrashLoopBackOff back-off 40s"),
        (pod("Running", RUNNING), "main is running and not ready yet"),
        (pod("Pending", waiting("ContainerCreating")), "Pending"),
        (pod("Pending", conditions=[UNSCHEDULED]), "0/1 nodes: no memory"),
        (
            pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "main ended with code 137 (OOMKilled)",
        ),
        (pod("Failed", reason="Evicted", message="The node was low on memory"), "Evicted: The node was low on memory"),
        (pod("Failed"), "Failed"),
        ({"metadata": {"name": "new"}, "status": {}}, "unknown"),
    ],
)
def test_the_reason_why_a_pod_is_not_ready(item: dict[str, Any], reason: str) -> None:
    assert trouble(item) == reason


def test_an_initial_container_is_named_before_the_one_that_waits_for_it() -> None:
    first = {"name": "await-postgres", "ready": False, "restartCount": 0, "state": RUNNING}
    item = pod("Pending", waiting("PodInitializing"), initContainerStatuses=[first])
    assert trouble(item) == "await-postgres is running and not ready yet"


def test_a_container_that_is_ready_is_not_blamed_for_another() -> None:
    item = pod("Running", RUNNING, waiting("CrashLoopBackOff"))
    item["status"]["containerStatuses"][0] |= {"name": "proxy", "ready": True}
    assert trouble(item) == "main: CrashLoopBackOff"


def workload(kind: str, wanted: int = 1, **status: int) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "generation": 2}, "spec": {"replicas": wanted}, "status": status}


def of_a_cronjob(job: dict[str, Any]) -> dict[str, Any]:
    return job | {"metadata": job["metadata"] | {"ownerReferences": [{"kind": "CronJob", "name": "backup"}]}}


DONE = {"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("item", "late"),
    [
        (workload("Deployment", **DONE), False),
        (workload("StatefulSet", **DONE), False),
        (workload("Deployment", wanted=0, observedGeneration=2), False),
        (workload("Deployment"), True),
        (workload("Deployment", **DONE | {"readyReplicas": 0}), True),
        (workload("Deployment", wanted=2, **DONE), True),
        # the old replica is ready, the new one is not seen, not made, or not ready yet
        (workload("Deployment", **DONE | {"observedGeneration": 1}), True),
        (workload("Deployment", **DONE | {"updatedReplicas": 0}), True),
        (workload("Deployment", **DONE | {"replicas": 2}), True),
        (workload("Job", succeeded=1), False),
        (workload("Job", active=1), True),
        (workload("Job", failed=1), True),
        (of_a_cronjob(workload("Job", failed=1)), False),
    ],
)
def test_a_workload_is_late_until_all_its_present_replicas_are_ready(
    item: dict[str, Any], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workloads, "get", lambda *_: {"items": [item]})
    assert workloads.late_workloads() == ([f"{item['kind'].lower()}/x"] if late else [])


def test_a_platform_that_does_not_come_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = pod("Pending", waiting("CreateContainerConfigError", 'secret "fastapi" not found'))
    event = {"involvedObject": {"name": "fastapi-1"}, "reason": "Failed", "message": "secret not found"}
    answers = {"pods": [bad], "events": [event], "deployments,statefulsets,jobs": [workload("Deployment")]}
    monkeypatch.setattr(workloads, "get", lambda _, __, kind, *___: {"items": answers[kind]})
    with pytest.raises(Failure) as slow:
        workloads.wait_ready(seconds=-1)
    for words in ("did not come", 'fastapi-1: main: CreateContainerConfigError secret "fastapi"', "secret not found"):
        assert words in str(slow.value)
