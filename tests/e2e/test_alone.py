"""Components installed without the umbrella chart, in namespaces beside the platform's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from ci.cluster.confirm import confirm_removal
from ci.common.console import Failure, wait_for
from ci.common.kube import forward, get, kube
from ci.common.paths import CHECKOUT
from ci.deploy import charts, cluster_rights, helm_release, secrets, workloads

pytestmark = pytest.mark.e2e

SPACE, JOBS = "alone", "alone-jobs"
IMAGES = CHECKOUT / "values" / "images-kind.yaml"


def install(chart: str, *settings: str) -> None:
    """Install one chart with Helm, without the umbrella chart."""
    values = ["-f", str(IMAGES), "--set", f"global.jobsNamespace={JOBS}"]
    values += [word for setting in settings for word in ("--set", setting)]
    helm_release.helm("install", chart, str(charts.CHARTS / chart), "-n", SPACE, *values)


@pytest.fixture(scope="module")
def space(installed: list[str]) -> Iterator[str]:
    """Create namespaces that hold only Secrets; delete them afterwards."""
    confirm_removal(f"the namespaces {SPACE} and {JOBS}")
    charts.dependencies()
    kube("delete", "namespace", SPACE, JOBS, "--ignore-not-found", "--timeout=120s", timeout=150)
    secrets.create(SPACE, JOBS)
    yield SPACE
    kube("delete", "namespace", SPACE, JOBS, "--timeout=120s", timeout=150)
    cluster_rights.revoke(SPACE)


@pytest.fixture(scope="module")
def postgres(space: str) -> str:
    install("postgres", "storage.size=1Gi")
    workloads.wait_ready(120, space)
    return space


def test_postgres_alone_has_its_databases(postgres: str) -> None:
    words = ["psql", "-h", "/tmp", "-U", "postgres", "-At", "-c", "select datname, datdba::regrole from pg_database"]
    rows = kube("-n", postgres, "exec", "postgres-0", "-c", "postgres", "--", *words).split()
    assert {"airflow|airflow", "mlflow|mlflow", "ledger|ledger"} <= set(rows)


def test_minio_alone_creates_its_buckets(space: str) -> None:
    install("minio", "storage.size=1Gi")
    workloads.wait_ready(120, space)
    job = next(pod for pod in workloads.pods(space) if pod["metadata"]["name"].startswith("minio-provision"))
    log = kube("-n", space, "logs", job["metadata"]["name"])
    assert "bucket house-data belongs to pipeline" in log, log


def test_predictor_alone_is_alive_and_names_the_missing_registry(postgres: str) -> None:
    install("fastapi", "replicas=1")
    with _pod_tunnel(postgres, "fastapi") as url:
        assert httpx.get(f"{url}/health/live", timeout=10).status_code == 200
        unready = httpx.get(f"{url}/health/ready", timeout=10)
        assert unready.status_code == 503
        assert "registry" in unready.json()["detail"], unready.text
        refused = httpx.post(f"{url}/predict", json={}, timeout=10)
        assert (refused.status_code, refused.json()["detail"]) == (503, unready.json()["detail"])
    restarts = [box["restartCount"] for pod in _pods(postgres, "fastapi") for box in pod["status"]["containerStatuses"]]
    assert restarts == [0]


def test_wait_ready_names_a_missing_secret(space: str) -> None:
    kube("-n", space, "delete", "secret", "mlflow")
    install("mlflow")
    with pytest.raises(Failure) as failure:
        workloads.wait_ready(120, space)
    assert 'secret "mlflow" not found' in str(failure.value), failure.value


def test_incomplete_secrets_are_not_created_again(space: str) -> None:
    """Continues the previous test: one Secret was lost, and the others contain the same passwords."""
    before = _values(space)
    with pytest.raises(Failure, match=f"{space}/mlflow"):
        secrets.create(SPACE, JOBS)
    assert _values(space) == before


def _values(space: str) -> str:
    items = get("-n", space, "secrets")["items"]
    return json.dumps({item["metadata"]["name"]: item.get("data") for item in items}, sort_keys=True)


def _pods(space: str, name: str) -> list[dict[str, Any]]:
    return [pod for pod in workloads.pods(space) if pod["metadata"]["labels"].get("app.kubernetes.io/name") == name]


def _pod_tunnel(space: str, name: str) -> AbstractContextManager[str]:
    """Forward a port to the only pod of a component. A Service leads only to Ready pods."""
    wait_for(f"a pod of {name}", lambda: bool(_running(space, name)), 90)
    return forward(space, f"pod/{_running(space, name)[0]}", 8000)


def _running(space: str, name: str) -> list[str]:
    return [
        str(pod["metadata"]["name"])
        for pod in _pods(space, name)
        for box in pod["status"].get("containerStatuses", [])
        if box.get("started")
    ]
