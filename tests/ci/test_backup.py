"""`python -m ci.deploy.backup` runs a Job like those of the CronJob, reports its end, and deletes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.common.console import Failure
from ci.deploy import backup, one_job
from tests.kit.rendering import find, objects


class Cluster:
    """Stand-in for kubectl: a Job that ends with `status`, and a pod with `pod` as its status."""

    def __init__(self, status: dict[str, int], pod: dict[str, Any], running: bool = False) -> None:
        self.status, self.pod = status, pod
        self.jobs: dict[str, Any] = {"backup-full": {}} if running else {}

    def kube(self, *words: str, stdin: str = "", **_: Any) -> str:
        if words[0] == "create":
            made = json.loads(stdin)
            self.jobs[made["metadata"]["name"]] = made
        elif "delete" in words:
            self.jobs.pop(words[words.index("job") + 1])
        elif "get" in words:
            return "job.batch/x" if words[words.index("job") + 1] in self.jobs else ""
        return ""

    def get(self, *words: str) -> dict[str, Any]:
        return {"items": [{"status": self.pod}]} if "pods" in words else {"status": self.status}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Cluster:
        monkeypatch.setattr(one_job, "kube", self.kube)
        monkeypatch.setattr(one_job, "get", self.get)
        monkeypatch.setattr(one_job, "kubectl", lambda: "kubectl")
        monkeypatch.setattr(one_job.subprocess, "run", lambda *_, **__: None)
        return self


SUCCEEDED = {"phase": "Succeeded"}
NO_IMAGE = {"phase": "Pending", "containerStatuses": [
    {"name": "backup", "state": {"waiting": {"reason": "ErrImagePull"}}}]}  # fmt: skip


@pytest.fixture
def job() -> dict[str, Any]:
    return backup.job(find(objects("vm"), "CronJob", "backup"), ["full"])


def test_job_is_deleted_after_its_success(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({"succeeded": 1}, SUCCEEDED).install(monkeypatch)
    one_job.run(job)
    assert cluster.jobs == {}


def test_failed_backup_is_an_error(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({"failed": 1}, {"phase": "Failed"}).install(monkeypatch)
    with pytest.raises(Failure, match="Job/backup-full failed: its log above shows the reason"):
        one_job.run(job)
    assert cluster.jobs == {}


def test_pod_that_cannot_start_is_an_error(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({}, NO_IMAGE).install(monkeypatch)
    with pytest.raises(Failure, match="Job/backup-full cannot start: backup: ErrImagePull"):
        one_job.run(job)
    assert cluster.jobs == {}


def test_second_backup_by_hand_leaves_the_first_alone(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({}, SUCCEEDED, running=True).install(monkeypatch)
    with pytest.raises(Failure, match="Job/backup-full runs already"):
        one_job.run(job)
    assert set(cluster.jobs) == {"backup-full"}


@pytest.mark.parametrize(("argocd", "release"), [(True, None), (False, {"name": "mlops"})])
def test_restore_over_an_installed_platform_is_refused(
    argocd: bool, release: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup.platform, "delivered_by_argocd", lambda: argocd)
    monkeypatch.setattr(backup.helm_release, "release", lambda: release)
    with pytest.raises(Failure, match="a restore needs an empty one"):
        backup.restore("latest", "", "kind", [])
