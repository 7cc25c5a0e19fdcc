"""The objects of an installed platform: missing ones and differing ones are named, for both ways of delivery."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.deploy import drift
from ci.deploy.drift import Difference
from ci.deploy.jobs import Outlived
from ci.doctor import checklist, objects

LIMIT = "spec.template.spec.containers[mlflow].resources.limits.memory"
DIFFERING = [
    Difference("NetworkPolicy", "mlops", "postgres", missing=True),
    Difference("Deployment", "mlops", "mlflow", fields=(LIMIT,)),
]


def resource(kind: str, name: str, status: str = "Synced", health: str = "Healthy") -> dict[str, Any]:
    """A resource in the status of an Application."""
    return {"kind": kind, "namespace": "mlops", "name": name, "status": status, "health": {"status": health}}


def application(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "status": {"resources": list(resources)}}


def test_every_object_that_is_missing_or_differs_is_named() -> None:
    result = objects.by_helm(DIFFERING, 70)
    assert (result.level, result.fix) == ("fail", "make install, or ./install.sh")
    assert result.what == f"Deployment/mlflow differs in {LIMIT}; NetworkPolicy/postgres is missing"


def test_no_difference_is_well_and_says_how_many_objects_there_are() -> None:
    result = objects.by_helm([], 70)
    assert (result.level, "all 70 objects" in result.what) == ("ok", True)


def test_no_record_is_not_looked_at() -> None:
    assert objects.by_helm([], 0).level == "skip"


def test_argocd_s_own_comparison_is_reported() -> None:
    lost = resource("NetworkPolicy", "postgres", "OutOfSync", "Missing")
    edited = resource("Deployment", "mlflow", "OutOfSync")
    result = objects.by_argocd([application(lost), application(edited, resource("Service", "mlflow"))])
    assert (result.level, result.what) == ("fail", "Deployment/mlflow differs; NetworkPolicy/postgres is missing")
    assert "Argo CD restores it by itself" in result.fix


def test_synced_applications_are_well() -> None:
    result = objects.by_argocd([application(resource("Service", "mlflow")), {"metadata": {"name": "new"}}])
    assert (result.level, "all 1 objects" in result.what) == ("ok", True)


def test_a_job_that_filled_a_lost_volume_is_named() -> None:
    result = objects.jobs([Outlived("minio-provision-1", "data-minio-0")])
    assert (result.level, "delete job minio-provision-1" in result.fix) == ("fail", True)
    assert result.what == "Job/minio-provision-1 filled an earlier volume than the present one of data-minio-0"
    assert objects.jobs([]).level == "ok"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("", "Deployment/mlflow differs in"),  # there is no Argo CD
        ('{"items": []}', "Deployment/mlflow differs in"),  # Argo CD delivers something else
        (json.dumps({"items": [application(resource("Job", "migrate", "OutOfSync"))]}), "Job/migrate differs"),
    ],
    ids=["helm", "helm beside argocd", "argocd"],
)
def test_the_comparison_is_that_of_the_way_of_delivery(answer: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checklist.kube, "kube", lambda *_, **__: answer)
    monkeypatch.setattr(drift, "installed_manifest", lambda: "kind: x")
    monkeypatch.setattr(drift, "read", lambda _: [{}])
    monkeypatch.setattr(drift, "differences", lambda _: DIFFERING)
    assert checklist._objects().what.startswith(what)
