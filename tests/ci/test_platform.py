"""Messages about pods and workloads that are not Ready yet, and what an install does about lost objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.deploy import drift, jobs, platform
from ci.deploy.drift import Difference
from ci.deploy.jobs import Outlived


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
    assert platform.trouble(item) == reason


def test_an_initial_container_is_named_before_the_one_that_waits_for_it() -> None:
    first = {"name": "await-postgres", "ready": False, "restartCount": 0, "state": RUNNING}
    item = pod("Pending", waiting("PodInitializing"), initContainerStatuses=[first])
    assert platform.trouble(item) == "await-postgres is running and not ready yet"


def test_a_container_that_is_ready_is_not_blamed_for_another() -> None:
    item = pod("Running", RUNNING, waiting("CrashLoopBackOff"))
    item["status"]["containerStatuses"][0] |= {"name": "proxy", "ready": True}
    assert platform.trouble(item) == "main: CrashLoopBackOff"


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
    monkeypatch.setattr(platform, "get", lambda *_: {"items": [item]})
    assert platform.late_workloads() == ([f"{item['kind'].lower()}/x"] if late else [])


def test_a_platform_that_does_not_come_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = pod("Pending", waiting("CreateContainerConfigError", 'secret "fastapi" not found'))
    event = {"involvedObject": {"name": "fastapi-1"}, "reason": "Failed", "message": "secret not found"}
    answers = {"pods": [bad], "events": [event], "deployments,statefulsets,jobs": [workload("Deployment")]}
    monkeypatch.setattr(platform, "get", lambda _, __, kind, *___: {"items": answers[kind]})
    with pytest.raises(platform.Failure) as slow:
        platform.wait_ready(seconds=-1)
    for words in ("did not come", 'fastapi-1: main: CreateContainerConfigError secret "fastapi"', "secret not found"):
        assert words in str(slow.value)


def test_decimal_numbers_reach_helm_as_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """helm's --set takes 0.5 for a string, which the schemas of the charts refuse."""
    monkeypatch.setattr(platform, "CHECKOUT", tmp_path)
    monkeypatch.setattr(platform, "egress", lambda _: {"global.kubeApi.cidr": "192.0.2.1/32"})
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "kind.yaml").touch()
    (tmp_path / "values" / "images-kind.yaml").touch()
    words = platform.value_arguments("kind", ["a.b=0.5", "a.c=5", "a.d=1.2.3"])
    assert words[-6:] == ["--set-json", "a.b=0.5", "--set", "a.c=5", "--set", "a.d=1.2.3"]


POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: postgres, namespace: mlops}\n"
LOST = Difference("NetworkPolicy", "mlops", "postgres", missing=True)


class Installation:
    """A release whose record equals the charts. `looks` are the results of comparisons with the cluster, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: list[Difference], record: str = POLICY) -> None:
        self.upgrades: list[tuple[str, ...]] = []
        self.record = record
        self.outlived: list[Outlived] = []
        self.deleted: list[Outlived] = []
        self.looks = list(looks)
        monkeypatch.setattr(platform, "delivered_by_argocd", lambda: False)
        monkeypatch.setattr(platform.secrets, "create", list)
        monkeypatch.setattr(platform, "value_arguments", lambda *_: [])
        monkeypatch.setattr(platform, "dependencies", lambda: 0)
        monkeypatch.setattr(platform, "helm", self.helm)
        monkeypatch.setattr(jobs, "outlived", lambda: self.outlived)
        monkeypatch.setattr(jobs, "delete", self.deleted.append)
        monkeypatch.setattr(drift, "read", lambda manifest: [manifest])
        monkeypatch.setattr(drift, "differences", lambda _: self.looks.pop(0))

    def helm(self, *words: str, **_: object) -> str:
        if words[0] == "upgrade":
            self.upgrades.append(words)
            return ""
        return {"list": '[{"status": "deployed"}]', "template": POLICY, "get": self.record}[words[0]]


def test_nothing_is_done_if_neither_the_record_nor_the_cluster_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Installation(monkeypatch, [])
    assert platform.install() is False
    assert release.upgrades == []
    assert release.deleted == []


ALERTMANAGER = """kind: ConfigMap
metadata: {name: alertmanager, namespace: mlops}
data: {alertmanager.yaml: '%s'}
"""
SILENT = ALERTMANAGER % "{receivers: [{name: team}, {name: heartbeat, webhook_configs: [{url_file: x}]}]}"
HEARD = ALERTMANAGER % "{receivers: [{name: team, webhook_configs: [{url_file: x}]}]}"


@pytest.mark.parametrize(
    ("manifest", "warnings"), [(SILENT, 1), (HEARD, 0), (POLICY, 0)], ids=["silent", "heard", "none"]
)
def test_an_install_without_a_receiver_of_alerts_warns_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], manifest: str, warnings: int
) -> None:
    Installation(monkeypatch, [], record=manifest)
    monkeypatch.setattr(platform, "rendered", lambda *_: manifest)
    assert platform.install() is False
    output = capsys.readouterr().out
    assert output.count("WARNING: nobody is notified of alerts in kind") == warnings
    assert output.count("docs/how-to/receive-alerts.md") == warnings


def test_a_job_whose_volume_was_lost_is_deleted_before_the_comparison_and_so_created_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = Outlived("minio-provision-1", "data-minio-0")
    release = Installation(monkeypatch, [Difference("Job", "mlops", again.name, missing=True)], [])
    release.outlived = [again]
    assert platform.install() is True
    assert release.deleted == [again]
    assert len(release.upgrades) == 1


def test_a_lost_object_is_named_and_restored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Installation(monkeypatch, [LOST], [])
    assert platform.install() is True
    assert len(release.upgrades) == 1
    assert "NetworkPolicy/postgres is missing; restoring it\n" in capsys.readouterr().out


def test_an_object_that_stays_different_fails_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    Installation(monkeypatch, [LOST], [LOST])
    with pytest.raises(platform.Failure, match="but NetworkPolicy/postgres is missing: another program"):
        platform.install()


def test_a_changed_chart_is_installed_without_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Installation(monkeypatch, record=POLICY.replace("postgres", "minio"))
    assert platform.changes(POLICY) == ["NetworkPolicy/minio", "NetworkPolicy/postgres"]
    assert platform.install() is True
    assert len(release.upgrades) == 1
