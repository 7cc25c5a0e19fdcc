"""Git is what runs: a real Argo CD brings it up, changes it, heals it, and refuses what it may not do.

Every test leaves the platform as the checkout says.
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

from ci import platform, runs, up
from ci.argocd import served, sync
from ci.argocd.__main__ import wanted
from ci.argocd.apply import GIT_URL, NAMESPACE
from ci.console import run, say, wait_for
from ci.kube import PLATFORM, forward, get, kube
from ci.paths import CHECKOUT

from .clients import Clients
from .delivery import ENV, deliver, ready_pods, restore, with_value

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("delivered")]
COMPONENTS = {"postgres", "minio", "datasource", "mlflow", "airflow", "fastapi", "monitoring", "streamlit"}
IMAGES = "values/images-kind.yaml"


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
    assert platform.release() is None, "Helm has a release of its own"
    assert up.predict()["price"]


def test_every_pod_says_what_it_runs() -> None:
    """Commit and digest of its image, as Git has them; the predictor says so over HTTP, too."""
    released = yaml.safe_load((CHECKOUT / IMAGES).read_text())["global"]["images"]
    for pod in platform.pods():
        name, marks = pod["metadata"]["name"], pod["metadata"]["annotations"]
        image = pod["spec"]["containers"][0]["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
        found = {key: marks.get(f"house-platform/{key}") for key in ("commit", "image-digest")}
        assert found == {"commit": released[image]["commit"], "image-digest": released[image]["digest"]}, name
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        told = httpx.get(f"{url}/version", timeout=20).json()
    assert (told["commit"], told["image_digest"]) == (released["predictor"]["commit"], released["predictor"]["digest"])


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


def test_a_new_image_reaches_the_pods(tmp_path: Path) -> None:
    """As a release does: a commit of its tag and digest. No request fails while pods are replaced."""
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
            say(f"back again: {restore():.0f} s")
    say(f"meanwhile {clients}")
    assert clients.failures == []


def another_image(name: str, folder: Path) -> dict[str, str]:
    """Build an image of this checkout with one comment more, and load it; returns tag and digest."""
    run(["git", "-C", str(CHECKOUT), "worktree", "add", "--detach", str(folder), "HEAD"])
    try:
        with (folder / f"services/{name}/src/{name}/__init__.py").open("a") as module:
            module.write("# another image\n")
        words = f"built = build(['{name}'], REGISTRY); load(built, REGISTRY); one = built[0]"
        program = f"from ci.images.__main__ import *; {words}; print(one.tag, one.digest)"
        tag, digest = run([sys.executable, "-c", program], cwd=folder).stdout.splitlines()[-1].split()
        return {"tag": tag, "digest": digest}
    finally:
        run(["git", "-C", str(CHECKOUT), "worktree", "remove", "--force", str(folder)])


@pytest.mark.parametrize("told", [False, True], ids=["polling", "webhook"])
def test_a_commit_is_found(told: bool) -> None:
    """Nobody annotates the root: Argo CD asks Git, or the repository's webhook has it ask at once."""
    began = time.monotonic()
    revision = served.push(ENV, with_value("fastapi.config.pollSeconds", 8 if told else 9))
    try:
        if told:
            notify(revision)
        sync.wait(revision, 300)
        say(
            f"commit to all Applications green, by {'webhook' if told else 'polling'}: {time.monotonic() - began:.0f} s"
        )
    finally:
        restore()


def notify(revision: str) -> None:
    """Tell Argo CD of a push in the words of GitHub."""
    repository = {"html_url": GIT_URL.removesuffix(".git"), "default_branch": served.BRANCH}
    push = {"ref": f"refs/heads/{served.BRANCH}", "after": revision, "commits": [], "repository": repository}
    with forward(NAMESPACE, "service/argocd-server", 80) as url:
        answer = httpx.post(f"{url}/api/webhook", json=push, headers={"X-GitHub-Event": "push"}, timeout=20)
    assert answer.status_code == 200, answer.text


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
    [
        ("Secret", PLATFORM, "resource :Secret is not permitted in project"),
        ("ConfigMap", "kube-system", "namespace kube-system is not permitted in project"),
    ],
)
def test_the_project_refuses_what_is_not_in_it(kind: str, namespace: str, refusal: str) -> None:
    forbidden = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "forbidden", "namespace": namespace}}
    revision = deliver({"charts/streamlit/templates/forbidden.yaml": json.dumps(forbidden)}, f"a forbidden {kind}")

    def told() -> bool:
        return refusal in sync.all_late(revision).get("streamlit", "")

    before = set(ready_pods("streamlit"))
    try:
        wait_for("the refusal", told, 120)
        say("refused, with the reason")
        assert not kube("-n", namespace, "get", kind, "forbidden", "--ignore-not-found")
        assert set(ready_pods("streamlit")) == before
    finally:
        say(f"mended after {restore():.0f} s")


def test_an_application_of_another_project_gets_nothing() -> None:
    """Who can write to the repository could name Argo CD's own project, which allows everything elsewhere."""
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
    deliver({"charts/platform/templates/stranger.yaml": json.dumps(stranger)}, "an Application of another project")

    def told() -> bool:
        text = kube(
            "-n", NAMESPACE, "get", "application", "stranger", "-o", "jsonpath={.status.conditions}", check=False
        )
        return "is not permitted in project 'default'" in text

    try:
        wait_for("the refusal", told, 120)
        assert not kube("-n", "kube-system", "get", "deployment", "streamlit", "--ignore-not-found")
    finally:
        say(f"mended after {restore():.0f} s")
    assert not kube("-n", NAMESPACE, "get", "application", "stranger", "--ignore-not-found")


def test_no_drift_while_the_platform_works() -> None:
    """Pipeline runs with trainings and promotions, requests, pods that come and go with the load: none of it is drift.

    HOUSE_WATCH_SECONDS long; ten minutes if it is not set.
    """
    seconds = float(os.environ.get("HOUSE_WATCH_SECONDS", "600"))
    sync.wait(deliver(with_value("fastapi.autoscaling.enabled", True), "fastapi: scale with the load"), 180)
    end, replicas, verdicts = time.monotonic() + seconds, set[int](), list[str]()

    def drain() -> None:
        with runs.airflow() as client:
            while time.monotonic() < end - 90:
                ended = runs.run_once(client)
                told = [
                    task.summary
                    for task in ended.tasks
                    if " promoted: " in task.summary or " rejected: " in task.summary
                ]
                verdicts.append("no more data" if ended.end_of_data else "; ".join(told) or "no training")
                if ended.end_of_data:
                    restart_data()
                time.sleep(seconds / 20)

    def crowd(clients: Clients) -> None:
        """Busy for a minute of every ten, so that pods come and go."""
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
        assert len(replicas) > 1, "the load did not scale the predictor: the watch proves less than it says"
        assert clients.failures == []
        assert sync.all_late(wanted()) == {}
    finally:
        restore()


def restart_data() -> None:
    """Have the data source begin again, as its owner does."""
    with forward(PLATFORM, "service/datasource", 8000) as url:
        asked: dict[str, str | int] = {"group_number": 1, "day": "Tuesday"}
        httpx.get(f"{url}/restart_data_generation", params=asked, timeout=20).raise_for_status()
