"""Git is what runs: a real Argo CD brings it up, changes it, heals it, and refuses what it may not do.

Every test leaves the platform as the checkout says.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from ci import platform, runs, up
from ci.argocd import served, sync
from ci.argocd.__main__ import wanted
from ci.argocd.manifests import NAMESPACE
from ci.console import say, wait_for
from ci.kube import PLATFORM, get, kube
from ci.paths import CHECKOUT

from .conftest import deliver, restore

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("delivered")]
COMPONENTS = {"postgres", "minio", "datasource", "mlflow", "airflow", "fastapi", "monitoring", "streamlit"}
VALUES = "values/kind.yaml"


def with_value(path: str, value: object) -> dict[str, str]:
    """The environment's values with one more, as a change to deliver."""
    values = yaml.safe_load((CHECKOUT / VALUES).read_text())
    *folders, last = path.split(".")
    place = values
    for name in folders:
        place = place.setdefault(name, {})
    place[last] = value
    return {VALUES: yaml.safe_dump(values)}


def ready_pods(name: str) -> dict[str, dict[str, Any]]:
    """Ready pods of a component, by name."""
    return {pod["metadata"]["name"]: pod for pod in platform.pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == name and not platform.trouble(pod)
            and "deletionTimestamp" not in pod["metadata"]}  # fmt: skip


def poll_seconds(pod: dict[str, Any]) -> str:
    """The setting as the running process has it."""
    command = "import os; print(os.environ['POLL_SECONDS'])"
    return kube("-n", PLATFORM, "exec", pod["metadata"]["name"], "--", "python3", "-c", command, check=False).strip()


def test_everything_comes_from_git_without_a_manual_sync() -> None:
    found = sync.applications()
    assert set(found) == COMPONENTS | {sync.ROOT}
    assert sync.all_late(wanted()) == {}
    for name, item in found.items():
        by = item["status"]["operationState"]["operation"]["initiatedBy"]
        assert by == {"automated": True}, f"{name} was synced by {by}"
    assert json.loads(platform.helm("list", "-n", PLATFORM, "-o", "json")) == [], "Helm has a release of its own"
    assert up.predict()["price"]


def test_a_commit_reaches_the_pods() -> None:
    began = time.monotonic()
    revision = deliver(with_value("fastapi.config.pollSeconds", 7), "fastapi: poll every 7 s")

    def reached() -> bool:
        pods = ready_pods("fastapi")
        return bool(pods) and {poll_seconds(pod) for pod in pods.values()} == {"7"}

    try:
        wait_for("the new value in every Ready predictor", reached, 300)
        say(f"commit to the value in all Ready pods: {time.monotonic() - began:.0f} s")
        sync.wait(revision, 180)
        say(f"commit to all Applications Synced Healthy Succeeded: {time.monotonic() - began:.0f} s")
        assert up.predict()["price"]
    finally:
        say(f"back again: {restore():.0f} s")


def test_a_commit_is_found_without_being_told() -> None:
    began = time.monotonic()
    revision = served.push("kind", with_value("fastapi.config.pollSeconds", 8))
    try:
        sync.wait(revision, 300)
        say(f"commit to all Applications green, by polling: {time.monotonic() - began:.0f} s")
    finally:
        restore()


def test_a_manual_edit_is_healed() -> None:
    before = get("-n", PLATFORM, "configmap", "streamlit")["data"]
    patch = json.dumps({"data": {"PREDICTOR_URL": "http://elsewhere"}})
    began = time.monotonic()
    kube("-n", PLATFORM, "patch", "configmap", "streamlit", "--type", "merge", "-p", patch)
    wait_for("the former value", lambda: get("-n", PLATFORM, "configmap", "streamlit")["data"] == before, 60)
    say(f"manual edit healed after {time.monotonic() - began:.1f} s")
    sync.wait(wanted(), 60)


@pytest.mark.parametrize(
    ("namespace", "kind", "name"),
    [
        (PLATFORM, "service", "streamlit"),
        (PLATFORM, "deployment", "streamlit"),
        (NAMESPACE, "application", "streamlit"),
    ],
)
def test_a_deleted_object_is_restored(namespace: str, kind: str, name: str) -> None:
    old = get("-n", namespace, kind, name)["metadata"]["uid"]
    began = time.monotonic()
    kube("-n", namespace, "delete", kind, name, "--wait=true")

    def restored() -> bool:
        found = kube("-n", namespace, "get", kind, name, "-o", "jsonpath={.metadata.uid}", check=False)
        return found not in ("", old)

    wait_for(f"a new {kind} {name}", restored, 120)
    say(f"deleted {kind} restored after {time.monotonic() - began:.1f} s")
    sync.wait(wanted(), 180)


def test_a_broken_value_says_why_and_harms_nothing() -> None:
    before = set(ready_pods("fastapi"))
    began = time.monotonic()
    revision = deliver(
        with_value("fastapi.resources", {"requests": {"memory": "256Mi"}, "limits": {"memory": "128Mi"}})
    )

    def told() -> bool:
        why = sync.all_late(revision).get("fastapi", "")
        return why.startswith("ComparisonError") and "fastapi.resources.limits.memory" in why

    try:
        wait_for("a condition that names the value", told, 120)
        say(f"condition after {time.monotonic() - began:.0f} s: {sync.all_late(revision)['fastapi']}")
        time.sleep(10)
        assert set(ready_pods("fastapi")) == before, "the pods that run are left alone"
        assert up.predict()["price"]
    finally:
        say(f"mended after {restore():.0f} s")
    assert set(ready_pods("fastapi")) == before


@pytest.mark.parametrize(
    ("kind", "namespace", "refusal"),
    [("Secret", PLATFORM, "is not permitted in project"), ("ConfigMap", "kube-system", "is not permitted in project")],
)
def test_the_project_refuses_what_is_not_in_it(kind: str, namespace: str, refusal: str) -> None:
    forbidden = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "forbidden", "namespace": namespace}}
    revision = deliver({"charts/streamlit/templates/forbidden.yaml": json.dumps(forbidden)}, f"a forbidden {kind}")

    def told() -> bool:
        return refusal in json.dumps(sync.applications()["streamlit"].get("status", {}))

    before = set(ready_pods("streamlit"))
    try:
        wait_for("the refusal", told, 120)
        say(f"refused: {sync.all_late(revision)['streamlit']}")
        assert not kube("-n", namespace, "get", kind, "forbidden", "--ignore-not-found")
        assert set(ready_pods("streamlit")) == before
    finally:
        say(f"mended after {restore():.0f} s")


def test_no_drift_while_the_platform_works() -> None:
    """Three minutes with a pipeline run and requests; `python -m ci.argocd watch --seconds 3600` is the long one."""
    sync.wait(wanted(), 60)
    with ThreadPoolExecutor() as pool, runs.airflow() as client:
        run = pool.submit(runs.run_once, client)
        asked = pool.submit(lambda: [up.predict()["price"] for _ in range(20)])
        seen = sync.watch(180)
        assert run.result(300).state == "success"
        assert len(asked.result(60)) == 20
    assert seen == []
    assert sync.all_late(wanted()) == {}
