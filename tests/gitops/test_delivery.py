"""A real Argo CD deploys the platform from Git, updates it, reverts manual edits, and refuses forbidden objects.

Each test restores the state of the checkout at its end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ci.argocd import served, sync
from ci.argocd.actions import wanted
from ci.argocd.apply import GIT_URL, NAMESPACE
from ci.common.console import run, say, wait_for
from ci.common.kube import PLATFORM, forward, get, kube
from ci.common.paths import CHECKOUT
from ci.deploy import helm_release, runs, up, workloads
from tests.kit.clients import Clients

from .delivery import ENV, deliver, ready_pods, restore, with_value

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("delivered")]
COMPONENTS = {
    *("postgres", "minio", "datasource", "mlflow", "airflow"),
    *("fastapi", "monitoring", "streamlit", "oauth2-proxy"),
}
IMAGES = "values/images-kind.yaml"
RBAC = "rbac.authorization.k8s.io"


def poll_seconds(pod: dict[str, Any]) -> str:
    """POLL_SECONDS in the environment of the container."""
    command = "import os; print(os.environ['POLL_SECONDS'])"
    return kube("-n", PLATFORM, "exec", pod["metadata"]["name"], "--", "python3", "-c", command, check=False).strip()


def test_everything_comes_from_git_without_a_manual_sync() -> None:
    applications = sync.applications()
    assert set(applications) == COMPONENTS | {sync.ROOT}
    assert sync.all_late(wanted()) == {}
    for name, item in applications.items():
        by = item["status"]["operationState"]["operation"]["initiatedBy"]
        assert by == {"automated": True}, f"{name} was synced by {by}"
    assert helm_release.release() is None, "Helm has a release"
    assert up.predict()["price"]


def test_every_pod_reports_its_commit_and_image_digest() -> None:
    """Annotations have the commit and digest from Git. The predictor also reports them over HTTP."""
    released = yaml.safe_load((CHECKOUT / IMAGES).read_text())["global"]["images"]
    for pod in workloads.pods():
        name, marks = pod["metadata"]["name"], pod["metadata"]["annotations"]
        image = pod["spec"]["containers"][0]["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
        origin = {key: marks.get(f"house-platform/{key}") for key in ("commit", "image-digest")}
        assert origin == {"commit": released[image]["commit"], "image-digest": released[image]["digest"]}, name
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        version = httpx.get(f"{url}/version", timeout=20).json()
    assert (version["commit"], version["image_digest"]) == (
        released["predictor"]["commit"],
        released["predictor"]["digest"],
    )


@pytest.mark.parametrize("webhook", [False, True], ids=["polling", "webhook"])
def test_a_commit_reaches_the_pods(webhook: bool) -> None:
    """Without a refresh by the test: Argo CD polls Git, or the webhook of the repository triggers it."""
    began, trigger, value = time.monotonic(), "webhook" if webhook else "polling", 8 if webhook else 7
    revision = served.push(ENV, with_value("fastapi.config.pollSeconds", value), f"fastapi: poll every {value} s")

    def reached() -> bool:
        pods = ready_pods("fastapi")
        return bool(pods) and {poll_seconds(pod) for pod in pods.values()} == {str(value)}

    try:
        if webhook:
            notify(revision)
        wait_for("the new value in every Ready predictor", reached, 300)
        say(f"commit to the value in all Ready pods, by {trigger}: {time.monotonic() - began:.0f} s")
        sync.wait(revision, 180)
        say(f"commit to all Applications Synced Healthy Succeeded: {time.monotonic() - began:.0f} s")
        assert up.predict()["price"]
    finally:
        say(f"restored after {restore():.0f} s")


def test_a_new_image_reaches_the_pods(tmp_path: Path) -> None:
    """Like a release: a commit changes the tag and the digest. No request fails while pods are replaced."""
    images = yaml.safe_load((CHECKOUT / IMAGES).read_text())
    images["global"]["images"]["predictor"] = other = another_image("predictor", tmp_path / "checkout")
    with Clients() as clients:
        began = time.monotonic()
        revision = deliver({IMAGES: yaml.safe_dump(images)}, f"release: predictor {other['tag']}")
        try:
            sync.wait(revision, 300)
            say(f"commit of an image to all Applications Synced Healthy Succeeded: {time.monotonic() - began:.0f} s")
            pods = ready_pods("fastapi")
            assert pods
            for name, pod in pods.items():
                assert pod["spec"]["containers"][0]["image"].endswith(f":{other['tag']}@{other['digest']}"), name
        finally:
            say(f"restored after {restore():.0f} s")
    say(f"clients: {clients}")
    assert clients.failures == []


def another_image(name: str, folder: Path) -> dict[str, str]:
    """Build an image of this checkout with an extra comment, and load it; returns its tag and digest."""
    run(["git", "-C", str(CHECKOUT), "worktree", "add", "--detach", str(folder), "HEAD"])
    try:
        with (folder / f"services/{name}/src/{name}/__init__.py").open("a") as module:
            module.write("# another image\n")
        imports = "from ci.images.actions import build, load; from ci.images.catalog import REGISTRY"
        words = f"built = build(['{name}'], REGISTRY); load(built, REGISTRY); one = built[0]"
        program = f"{imports}; {words}; print(one.tag, one.digest)"
        tag, digest = run([sys.executable, "-c", program], cwd=folder).stdout.splitlines()[-1].split()
        return {"tag": tag, "digest": digest}
    finally:
        run(["git", "-C", str(CHECKOUT), "worktree", "remove", "--force", str(folder)])


def notify(revision: str) -> None:
    """Send a push event of GitHub to Argo CD's webhook."""
    repository = {"html_url": GIT_URL.removesuffix(".git"), "default_branch": served.BRANCH}
    push = {"ref": f"refs/heads/{served.BRANCH}", "after": revision, "commits": [], "repository": repository}
    with forward(NAMESPACE, "service/argocd-server", 80) as url:
        answer = httpx.post(f"{url}/api/webhook", json=push, headers={"X-GitHub-Event": "push"}, timeout=20)
    assert answer.status_code == 200, answer.text


def test_a_manual_edit_is_reverted() -> None:
    before = get("-n", PLATFORM, "configmap", "streamlit")["data"]
    patch = json.dumps({"data": {"PREDICTOR_URL": "http://elsewhere"}})
    began = time.monotonic()
    kube("-n", PLATFORM, "patch", "configmap", "streamlit", "--type", "merge", "-p", patch)
    wait_for("the former value", lambda: get("-n", PLATFORM, "configmap", "streamlit")["data"] == before, 60)
    say(f"manual edit reverted after {time.monotonic() - began:.1f} s")
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
        uid = kube("-n", namespace, "get", kind, name, "-o", "jsonpath={.metadata.uid}", check=False)
        return uid not in ("", old)

    wait_for(f"a new {kind} {name}", restored, 120)
    say(f"deleted {kind} restored after {time.monotonic() - began:.1f} s")
    sync.wait(wanted(), 180)


def test_an_invalid_value_is_reported_and_changes_no_pod() -> None:
    before = set(ready_pods("fastapi"))
    began = time.monotonic()
    revision = deliver(
        with_value("fastapi.resources", {"requests": {"memory": "256Mi"}, "limits": {"memory": "128Mi"}})
    )

    def reported() -> bool:
        reason = sync.all_late(revision).get("fastapi", "")
        return reason.startswith("ComparisonError") and "fastapi.resources.limits.memory" in reason

    try:
        wait_for("a condition that names the value", reported, 120)
        say(f"condition after {time.monotonic() - began:.0f} s: {sync.all_late(revision)['fastapi']}")
        time.sleep(10)
        assert set(ready_pods("fastapi")) == before, "the running pods were replaced"
        assert up.predict()["price"]
    finally:
        say(f"fixed after {restore():.0f} s")
    assert set(ready_pods("fastapi")) == before


def test_the_project_refuses_objects_and_applications_that_it_does_not_permit() -> None:
    """One commit has all of them, each in another Application, because every commit costs a minute.

    The Application names Argo CD's project `default`, which usually allows everything.
    """
    forbidden = {
        "streamlit": ("Secret", PLATFORM, "resource :Secret is not permitted in project"),
        "datasource": ("ConfigMap", "kube-system", "namespace kube-system is not permitted in project"),
        # would make the author of a commit the administrator of the cluster
        "mlflow": ("ClusterRoleBinding", "", f"resource {RBAC}:ClusterRoleBinding is not permitted in project"),
    }
    stranger = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "stranger", "namespace": NAMESPACE},
        "spec": {
            "project": "default",
            "source": {"repoURL": GIT_URL, "targetRevision": "main", "path": "charts/streamlit"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "kube-system"},
            "syncPolicy": {"automated": {}},
        },
    }
    changes: dict[str, str | None] = {"charts/platform/templates/stranger.yaml": json.dumps(stranger)}
    administrator = {
        "apiVersion": f"{RBAC}/v1",
        "subjects": [{"kind": "ServiceAccount", "name": "mlflow", "namespace": PLATFORM}],
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    }
    for chart, (kind, namespace, _) in forbidden.items():
        metadata = {"name": "forbidden"} | ({"namespace": namespace} if namespace else {})
        more = {"apiVersion": "v1"} if namespace else administrator
        item = {"kind": kind, "metadata": metadata, **more}
        changes[f"charts/{chart}/templates/forbidden.yaml"] = json.dumps(item)
    before = {chart: set(ready_pods(chart)) for chart in forbidden}
    revision = deliver(changes, "forbidden objects, and an Application of another project")

    def accepted() -> list[str]:
        late = sync.all_late(revision)
        names = [chart for chart, (_, _, refusal) in forbidden.items() if refusal not in late.get(chart, "")]
        words = ["application", "stranger", "-o", "jsonpath={.status.conditions}"]
        conditions = kube("-n", NAMESPACE, "get", *words, check=False)
        return [*names, *(["stranger"] if "is not permitted in project 'default'" not in conditions else [])]

    try:
        wait_for("the refusals", lambda: not accepted(), 120)
        say("all refused, with the reasons")
        for kind, namespace, _ in forbidden.values():
            assert not kube("-n", namespace or PLATFORM, "get", kind, "forbidden", "--ignore-not-found")
        assert not kube("-n", "kube-system", "get", "deployment", "streamlit", "--ignore-not-found")
        assert {chart: set(ready_pods(chart)) for chart in forbidden} == before
    finally:
        say(f"fixed after {restore():.0f} s")
    assert not kube("-n", NAMESPACE, "get", "application", "stranger", "--ignore-not-found")


def test_no_drift_while_the_platform_works() -> None:
    """Pipeline runs with trainings and promotions, requests, and autoscaling under load cause no drift.

    The test runs for HOUSE_WATCH_SECONDS, or ten minutes if the variable is not set.
    """
    seconds = float(os.environ.get("HOUSE_WATCH_SECONDS", "600"))
    sync.wait(deliver(with_value("fastapi.autoscaling.enabled", True), "fastapi: scale with the load"), 180)
    end, replicas, verdicts = time.monotonic() + seconds, set[int](), list[str]()

    def drain() -> None:
        with runs.airflow() as client:
            while time.monotonic() < end - 90:
                ended = runs.run_once(client)
                summaries = [
                    task.summary
                    for task in ended.tasks
                    if " promoted: " in task.summary or " rejected: " in task.summary
                ]
                verdicts.append("no more data" if ended.end_of_data else "; ".join(summaries) or "no training")
                if ended.end_of_data:
                    restart_data()
                time.sleep(seconds / 20)

    def crowd(clients: Clients) -> None:
        """Full load for one minute of every ten, so that the number of pods changes."""
        while (left := end - time.monotonic()) > 0:
            clients.pause = 0 if (seconds - left) % 600 < 60 else 2
            replicas.add(get("-n", PLATFORM, "deployment", "fastapi")["spec"]["replicas"])
            time.sleep(5)

    try:
        with ThreadPoolExecutor() as pool, Clients(threads=8) as clients:
            work = [pool.submit(drain), pool.submit(crowd, clients)]
            seen = sync.watch(seconds)
            for task in work:
                task.result(600)
        say(f"{len(verdicts)} pipeline runs: {'; '.join(verdicts)}")
        say(f"{min(replicas)} to {max(replicas)} predictors; {clients}")
        assert seen == []
        assert any(verdict.startswith("version") for verdict in verdicts), "no run trained"
        assert len(replicas) > 1, "the load did not scale the predictor, so the test did not cover autoscaling"
        assert clients.failures == []
        assert sync.all_late(wanted()) == {}
    finally:
        restore()


def restart_data() -> None:
    """Restart the data generation of the data source."""
    with forward(PLATFORM, "service/datasource", 8000) as url:
        group: dict[str, str | int] = {"group_number": 1, "day": "Tuesday"}
        httpx.get(f"{url}/restart_data_generation", params=group, timeout=20).raise_for_status()
