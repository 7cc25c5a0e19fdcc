"""`make gitops`: applied objects, the served branch, and the gate that waits for a sync."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.argocd import build, manifests, served, sync
from ci.argocd.apply import GIT_URL
from ci.common.console import Failure
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT

OFFICIAL = parse((Path(__file__).with_name("argocd-install.yaml")).read_text())
IMAGE = "localhost/house-platform/argocd:3.6.1-abc@sha256:def"
ENVIRONMENTS = ("kind", "vm", "prod")
REVISION = "a" * 40

Object = dict[str, Any]


def pods(objects: list[Object]) -> dict[str, Object]:
    """Pod specifications of the workloads, by name."""
    return {item["metadata"]["name"]: item["spec"]["template"]["spec"]
            for item in objects if item["kind"] in ("Deployment", "StatefulSet")}  # fmt: skip


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


OURS = [*manifests.install(OFFICIAL, IMAGE), *manifests.git_server(IMAGE)]


def test_what_is_not_used_is_not_installed() -> None:
    assert set(pods(OURS)) == {
        "argocd-application-controller", "argocd-redis", "argocd-repo-server", "argocd-server", "git",
    }  # fmt: skip
    accounts = {item["metadata"]["name"] for item in OURS if item["kind"] == "ServiceAccount"}
    for item in OURS:
        for subject in item.get("subjects", []):
            assert subject["name"] in accounts, f"{item['kind']} {item['metadata']['name']}: {subject['name']}"


def test_official_objects_are_not_changed_in_place() -> None:
    before = copy.deepcopy(OFFICIAL)
    manifests.install(OFFICIAL, IMAGE)
    assert before == OFFICIAL


@pytest.mark.parametrize("name", pods(OURS))
def test_every_container_is_restricted_and_bounded(name: str) -> None:
    pod = pods(OURS)[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        where, context = f"{name}/{container['name']}", container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert context["readOnlyRootFilesystem"] is True, where
        assert set(container["resources"]) == {"requests", "limits"}, where


def test_with_our_image_nothing_comes_from_a_registry() -> None:
    for name, pod in pods(OURS).items():
        for container in containers(pod):
            assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent"), name
    [redis] = pods(OURS)["argocd-redis"]["containers"]
    assert redis["args"][0] == "redis-server", "our image's entry point runs no Redis of itself"


def test_without_it_images_are_the_official_ones() -> None:
    images = {container["image"] for pod in pods(manifests.install(OFFICIAL)).values() for container in containers(pod)}
    assert f"quay.io/argoproj/argocd:{build.VERSION}" in images
    assert not any("localhost" in image for image in images)


def test_settings_are_merged_and_restart_who_reads_them_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {item["metadata"]["name"]: item.get("data") for item in OURS if item["kind"] == "ConfigMap"}
    assert "resource.customizations.ignoreResourceUpdates.all" in data["argocd-cm"], "the official ones stay"
    assert "local function same" in data["argocd-cm"]["resource.customizations.health.argoproj.io_Application"]
    assert data["argocd-cmd-params-cm"] == manifests.read("argocd-cmd-params-cm.yaml")["data"]

    def checksum(objects: list[Object]) -> str:
        [checksum] = {str(item["spec"]["template"]["metadata"]["annotations"]["checksum/params"])
                   for item in objects if item["kind"] in ("Deployment", "StatefulSet")}  # fmt: skip
        return checksum

    before, read = checksum(manifests.install(OFFICIAL)), manifests.read
    changed = {"reposerver.log.level": "warn"}
    monkeypatch.setattr(manifests, "read", lambda name: read(name) | {"data": read(name).get("data", {}) | changed})
    assert checksum(manifests.install(OFFICIAL)) != before


def test_only_the_repo_server_reads_git() -> None:
    [policy] = [item for item in manifests.git_server(IMAGE) if item["kind"] == "NetworkPolicy"]
    assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
    assert "egress" not in policy["spec"]
    [rule] = policy["spec"]["ingress"]
    labels = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
              for item in OURS if item["kind"] in ("Deployment", "StatefulSet")}  # fmt: skip
    wanted = rule["from"][0]["podSelector"]["matchLabels"].items()
    assert [name for name, label_set in labels.items() if wanted <= label_set.items()] == ["argocd-repo-server"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_delivery_is_what_is_committed_but_for_the_repository_and_the_clusters_address(env: str) -> None:
    committed = [
        yaml.safe_load((CHECKOUT / "argocd" / name).read_text())
        for name in ("project.yaml", "project-root.yaml", f"root-{env}.yaml")
    ]
    assert manifests.delivery(env) == committed
    *projects, root = manifests.delivery(env, GIT_URL, {"global.kubeApi.cidr": "10.0.0.1/32"})
    old = committed[-1]["spec"]["source"]["repoURL"]
    assert old not in yaml.safe_dump_all([*projects, root])
    assert [project["spec"]["sourceRepos"] for project in projects] == [[GIT_URL]] * 2
    added = root["spec"]["source"]["helm"]["parameters"].pop()
    assert added == {"name": "global.kubeApi.cidr", "value": "10.0.0.1/32"}
    text = yaml.safe_dump_all([*projects, root]).replace(GIT_URL, old)
    assert list(yaml.safe_load_all(text)) == committed, "anything else differs"


def test_programs_are_of_the_versions_in_the_module() -> None:
    argocd = next(one for one in build.all_programs() if one.name == "argocd")
    assert f"common.version={build.VERSION.removeprefix('v')} " in argocd.version_flags
    assert f"gitops-engine/v3 {build.VERSION} " in (build.MODULE / "go.mod").read_text(), "both are released together"


# the served branch


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, and an empty repository in the place of the cluster's."""
    folder, bare = tmp_path / "checkout", tmp_path / "served.git"
    for words in (["init", "-q", "-b", "work", str(folder)], ["init", "-q", "--bare", "-b", "main", str(bare)]):
        subprocess.run(["git", *words], check=True)

    @contextmanager
    def server() -> Iterator[str]:
        yield str(bare)

    monkeypatch.setattr(served, "CHECKOUT", folder)
    monkeypatch.setattr(served, "server", server)
    (folder / "values").mkdir()
    (folder / ".gitignore").write_text("values/images-kind.yaml\n")
    (folder / "values" / "kind.yaml").write_text("a: 1\n")
    (folder / "values" / "images-kind.yaml").write_text("tag: one\n")
    served.git("add", "-A")
    served.git("commit", "-q", "-m", "first")
    return folder


def _show(folder: Path, path: str) -> str:
    bare = folder.parent / "served.git"
    return subprocess.run(
        ["git", "-C", str(bare), "show", f"main:{path}"], check=True, capture_output=True, text=True
    ).stdout


def test_served_branch_is_head_with_the_images_file(checkout: Path) -> None:
    (checkout / "values" / "kind.yaml").write_text("a: not committed\n")
    revision = served.push("kind")
    assert _show(checkout, "values/kind.yaml") == "a: 1\n"
    assert _show(checkout, "values/images-kind.yaml") == "tag: one\n"
    assert served.git("status", "--porcelain") == "M values/kind.yaml", "the checkout is as before"
    assert served.git("rev-parse", "work") != revision


def test_served_branch_moves_forward_and_only_when_something_differs(checkout: Path) -> None:
    first = served.push("kind")
    assert served.push("kind") == first
    second = served.push("kind", {"values/kind.yaml": "a: 2\n", ".gitignore": None})
    assert _show(checkout, "values/kind.yaml") == "a: 2\n"
    with pytest.raises(subprocess.CalledProcessError):
        _show(checkout, ".gitignore")
    assert served.git("rev-parse", f"{second}^") == first
    third = served.push("kind")
    assert served.git("rev-parse", f"{third}^") == second
    assert _show(checkout, "values/kind.yaml") == "a: 1\n", "changes are of one push"


def test_served_commit_names_the_commit_of_the_checkout(checkout: Path) -> None:
    assert served.git("rev-parse", "HEAD") in served.git("log", "-1", "--format=%B", served.push("kind"))


def test_without_the_images_file_nothing_is_served(checkout: Path) -> None:
    (checkout / "values" / "images-kind.yaml").unlink()
    with pytest.raises(Failure, match="make images"):
        served.push("kind")


# the gate


def green(name: str = "fastapi") -> Object:
    """An Application that is as Git says at REVISION."""
    return {
        "metadata": {"name": name},
        "spec": {"project": "house-platform", "source": {"targetRevision": REVISION}},
        "status": {
            "sync": {"status": "Synced", "revision": REVISION},
            "health": {"status": "Healthy"},
            "operationState": {"phase": "Succeeded"},
            "resources": [{"kind": "Deployment", "name": "fastapi", "status": "Synced"}],
        },
    }


def _set(*path: str, to: Any) -> Callable[[Object], None]:
    def change(item: Object) -> None:
        for key in path[:-1]:
            item = item[key]
        item[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("spec", "source", "targetRevision", to="b" * 40), "does not know of aaaaaaa"),
        (_set("status", "sync", "revision", to="b" * 40), "not compared with aaaaaaa yet"),
        (_set("status", "sync", "status", to="OutOfSync"), "OutOfSync"),
        (_set("status", "operationState", to={"phase": "Running", "message": "wave 0"}), "sync running: wave 0"),
        (_set("status", "operationState", to={"phase": "Failed", "message": "denied"}), "sync failed: denied"),
        (_set("status", "operationState", to={}), "never synced"),
        (_set("status", "health", "status", to="Progressing"), "Progressing"),
        (_set("status", "conditions", to=[{"type": "SyncError", "message": "no\n file"}]), "SyncError: no file"),
        (_set("status", to={}), "not compared"),
    ],
)  # fmt: skip
def test_gate_names_what_is_late(change: Callable[[Object], None], reason: str) -> None:
    item = green()
    assert sync.late(item, REVISION) == ""
    change(item)
    assert reason in sync.late(item, REVISION)


def test_gate_names_objects_that_differ_or_are_ill() -> None:
    item = green()
    item["status"]["resources"] = [
        {"kind": "Deployment", "name": "fastapi", "status": "Synced",
         "health": {"status": "Progressing", "message": "0 of 1 replicas"}},
        {"kind": "Service", "name": "fastapi", "status": "Synced"},
    ]  # fmt: skip
    item["status"]["health"]["status"] = "Progressing"
    assert sync.late(item, REVISION) == "Progressing: Deployment/fastapi 0 of 1 replicas"
    item["status"]["resources"][1]["status"] = "OutOfSync"
    item["status"]["sync"]["status"] = "OutOfSync"
    assert sync.late(item, REVISION) == "OutOfSync: Service/fastapi"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, Object]:
    """The Applications that the gate sees: a root that follows a branch and wants one component."""
    root = green(sync.ROOT)
    root["spec"]["source"]["targetRevision"] = "main"
    root["status"]["resources"] = [{"kind": "Application", "name": "fastapi", "status": "Synced"}]
    applications = {sync.ROOT: root, "fastapi": green()}
    monkeypatch.setattr(sync, "applications", lambda: applications)
    return applications


def test_gate_waits_for_a_component_that_is_still_to_be_made(cluster: dict[str, Object]) -> None:
    assert sync.all_late(REVISION) == {}
    del cluster["fastapi"]
    assert sync.all_late(REVISION) == {"fastapi": "does not exist yet"}
    cluster.clear()
    assert sync.all_late(REVISION) == {sync.ROOT: "there is no root Application"}


def test_gate_may_leave_out_the_predictor_and_a_root_that_waits_for_it(cluster: dict[str, Object]) -> None:
    for item in cluster.values():
        item["status"]["health"]["status"] = "Progressing"
    sync.wait(REVISION, 0, but=["fastapi"])
    with pytest.raises(Failure, match="fastapi: Progressing"):
        sync.wait(REVISION, 0)
    cluster[sync.ROOT]["status"]["resources"] = []
    with pytest.raises(Failure, match="house-platform: Progressing"):
        sync.wait(REVISION, 0, but=["fastapi"])  # before the root is rendered nobody knows what is to be waited for


class Clock:
    """A clock that only `sleep` moves, so that a busy machine changes nothing."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_watch_sees_a_difference_and_a_sync(cluster: dict[str, Object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "time", Clock())
    looks = iter(range(100))

    def look() -> dict[str, Object]:
        now = copy.deepcopy(cluster)
        if next(looks) == 2:
            now["fastapi"]["status"]["sync"]["status"] = "OutOfSync"
        return now

    monkeypatch.setattr(sync, "applications", look)
    seen = sync.watch(6)
    assert [line.partition(",")[0] for line in seen] == ["fastapi: OutOfSync", "fastapi: Synced"]
    monkeypatch.setattr(sync, "applications", lambda: cluster)
    assert sync.watch(2) == []


def test_progress_is_reported_once_and_together(capsys: pytest.CaptureFixture[str]) -> None:
    looks = [{"a": "is late", "b": "is late", "c": "is ill"}, {"a": "is late", "c": "is ill"}, {}]
    reported: dict[str, str] = {}
    for now in looks:
        sync._tell(reported, now, "green")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a, b: is late", "c: is ill", "b: green", "a, c: green"]


def test_gate_does_not_hold_a_failure_of_another_commit_against_this_one() -> None:
    item = green()
    item["status"]["operationState"] = {"phase": "Failed", "message": "denied", "syncResult": {"revision": "b" * 40}}
    assert sync.late(item, REVISION) == ""
    item["status"]["sync"]["status"] = "OutOfSync"
    assert sync.late(item, REVISION) == "sync failed: denied"
    item["status"]["sync"]["status"] = "Synced"
    item["status"]["operationState"]["phase"] = "Running"
    assert sync.late(item, REVISION) == "sync running: denied", "it would still apply the other commit"
    item["status"]["operationState"] |= {"phase": "Failed", "syncResult": {"revision": REVISION}}
    assert sync.late(item, REVISION) == "sync failed: denied"
