"""A cluster with one fault each, as kubectl would tell it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ci.common.console import Failure
from ci.doctor import cluster, health, policies, secrets, versions
from ci.doctor.requirements import Requirements

NEEDS = Requirements("vm", storage_classes=[""], secrets=["mlops/minio", "mlops/postgres"], foreign_secrets=[])


def kubectl(**answers: Any) -> Callable[..., dict[str, Any]]:
    """`kubectl get` that knows some kinds of objects; a list is the items of all namespaces."""

    def get(*words: str) -> dict[str, Any]:
        kind = next(word for word in words if word.partition(".")[0] in KINDS)
        if kind.partition(".")[0] not in answers:
            raise Failure(f"the server doesn't have a resource type {kind}")
        result = answers[kind.partition(".")[0]]
        if isinstance(result, list):
            space = words[words.index("-n") + 1] if "-n" in words else ""
            return {"items": [item for item in result if space in ("", item["metadata"].get("namespace"))]}
        return dict(result)

    return get


KINDS = {"nodes", "servicecidrs", "service", "storageclasses", "secrets", "applications", "pods"}


def node(**conditions: str) -> dict[str, Any]:
    listed = [{"type": name, "status": status, "message": f"about {name}"} for name, status in conditions.items()]
    return {"metadata": {"name": "house"}, "spec": {"podCIDR": "10.42.0.0/24"}, "status": {"conditions": listed}}


def storage_class(name: str, default: bool) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {cluster.DEFAULT_CLASS: str(default).lower()}}}


def named(path: str) -> dict[str, Any]:
    space, _, name = path.partition("/")
    return {"metadata": {"namespace": space, "name": name}}


def test_kubernetes_that_is_too_old() -> None:
    result = versions.kubernetes("v1.27.4+k3s1", "v1.28.0")
    assert (result.level, result.what) == (
        "fail",
        "v1.27.4+k3s1 is older than 1.30, the oldest version that the charts support",
    )


def test_kubectl_that_is_too_old() -> None:
    result = versions.kubernetes("v1.36.3", "v1.34.0")
    assert (result.level, "more than one minor version apart" in result.what) == ("warn", True)
    assert "use kubectl 1.36.x" in result.fix
    assert versions.kubernetes("v1.36.3", "v1.35.1").level == "ok"


@pytest.mark.parametrize(("version", "level"), [("", "fail"), ("v3.9.1", "fail"), ("v3.17.3", "ok"), ("v4.3.1", "ok")])
def test_helm(version: str, level: str) -> None:
    result = versions.helm(version)
    assert result.level == level
    assert level == "ok" or "./bin/helm" in result.fix


def test_node_that_is_not_well() -> None:
    result = cluster.nodes(kubectl(nodes=[node(Ready="False", DiskPressure="True", MemoryPressure="False")]))
    assert result.level == "fail"
    assert result.what == "house: Ready=False (about Ready); house: DiskPressure=True (about DiskPressure)"
    assert cluster.nodes(kubectl(nodes=[node(Ready="True", DiskPressure="False")])).level == "ok"


def test_networks_of_the_cluster() -> None:
    get = kubectl(nodes=[node()], servicecidrs=[{"metadata": {}, "spec": {"cidrs": ["10.43.0.0/16"]}}])
    assert cluster.networks(get) == ("10.42.0.0/24", "10.43.0.0/16")


@pytest.mark.parametrize(("address", "network"), [("10.43.0.1", "10.43.0.0/16"), ("10.152.183.1", "10.152.183.0/24")])
def test_service_network_of_a_cluster_that_does_not_tell_it(address: str, network: str) -> None:
    """Before Kubernetes 1.33. K3s's default must still be seen to swallow the data API at 10.43.100.103."""
    get = kubectl(nodes=[node()], service={"spec": {"clusterIP": address}})
    assert cluster.networks(get)[1] == network


def test_no_default_storage_class() -> None:
    result = cluster.storage(NEEDS, kubectl(storageclasses=[storage_class("local-path", False)]))
    assert (result.level, "volume claims would stay Pending" in result.what) == ("fail", True)
    assert result.fix == f"kubectl annotate storageclass local-path {cluster.DEFAULT_CLASS}=true"


def test_no_storage_class_at_all() -> None:
    assert "--disable=local-storage" in cluster.storage(NEEDS, kubectl(storageclasses=[])).fix


def test_storage_class_that_values_name_and_the_cluster_lacks() -> None:
    result = cluster.storage(
        Requirements("vm", storage_classes=["fast"]), kubectl(storageclasses=[storage_class("a", True)])
    )
    assert (result.level, "StorageClass fast, which the cluster does not have" in result.what) == ("fail", True)


def test_two_default_storage_classes() -> None:
    result = cluster.storage(NEEDS, kubectl(storageclasses=[storage_class("a", True), storage_class("b", True)]))
    assert (result.level, "a, b are all the default" in result.what) == ("warn", True)


def test_secrets_that_are_missing_in_part() -> None:
    [result] = secrets.existing(NEEDS, kubectl(secrets=[named("mlops/minio")]))
    assert (result.level, result.what.startswith("mlops/postgres missing while others exist")) == ("fail", True)
    assert "backup" in result.fix


def test_key_of_a_later_release_that_is_missing() -> None:
    needs = Requirements("vm", secrets=["mlops/mlflow"], secret_keys=["mlops/mlflow/NEW", "mlops/mlflow/OLD"])
    older, newer = (
        named("mlops/mlflow") | {"data": dict.fromkeys(keys, "eA==")} for keys in (("OLD",), ("OLD", "NEW"))
    )
    [result] = secrets.existing(needs, kubectl(secrets=[older]))
    assert result.level == "fail"
    assert result.what.startswith("mlops/mlflow/NEW missing: ")
    assert result.fix.startswith("make secrets")
    assert secrets.existing(needs, kubectl(secrets=[newer]))[0].level == "ok"


def test_secret_of_a_later_release_is_made_by_the_install_and_missing_after_it() -> None:
    login = ["mlops/mlflow/LOGIN_PASSWORD", "mlops/oauth2-proxy/mlflow-password"]
    needs = Requirements("vm", secrets=["mlops/mlflow", "mlops/oauth2-proxy"], secret_keys=["mlops/mlflow/OLD", *login])
    get = kubectl(secrets=[named("mlops/mlflow") | {"data": {"OLD": "eA=="}}])
    for before, level in ((True, "warn"), (False, "fail")):
        [result] = secrets.existing(needs, get, before)
        assert (result.level, result.what.partition(" missing")[0]) == (level, ", ".join(login))
        assert result.fix.startswith("make secrets")


def test_secrets_before_the_first_install() -> None:
    [result] = secrets.existing(NEEDS, kubectl(secrets=[]))
    assert (result.level, result.fix.startswith("make secrets")) == ("warn", True)


def test_certificate_that_nobody_makes() -> None:
    needs = Requirements("prod", secrets=["mlops/minio"], foreign_secrets=["mlops/house-tls"])
    mine, certificate = secrets.existing(needs, kubectl(secrets=[named("mlops/minio")]))
    assert (mine.level, certificate.level) == ("ok", "fail")
    assert certificate.fix == "kubectl -n mlops create secret tls house-tls --cert=<file> --key=<file>"


RECEIVERS = Requirements("vm", receiver_keys=["mlops/alertmanager-receivers/slack-url"])


@pytest.mark.parametrize(
    ("data", "level"), [({"slack-url": "aHR0cHM="}, "ok"), ({"webhook-url": "aHR0cHM="}, "fail"), (None, "fail")]
)
def test_receiver_whose_key_is_missing(data: dict[str, str] | None, level: str) -> None:
    result = secrets.receivers(RECEIVERS, kubectl(secrets=[named("mlops/alertmanager-receivers") | {"data": data}]))
    assert result.level == level
    assert "aHR0cHM=" not in repr(result)
    if level == "fail":
        assert result.what.startswith("mlops/alertmanager-receivers/slack-url missing")
        assert "make secrets" in result.fix


def test_alerts_without_a_receiver() -> None:
    result = secrets.receivers(Requirements("vm", notifies=False), kubectl())
    assert (result.level, result.fix) == ("warn", "docs/how-to/receive-alerts.md")


@pytest.mark.parametrize(
    ("running", "locked", "level"),
    [
        ("2.22.0", "3.17.2", "fail"),
        ("3.16.0", "3.17.2", "warn"),
        ("3.17.2", "3.17.2", "ok"),
        ("", "2.9.1", "fail"),
        ("", "", "skip"),
    ],
)
def test_mlflow_client_and_server(running: str, locked: str, level: str) -> None:
    lock = {"server": locked, "pipeline": "3.17.2"} if locked else {}
    result = versions.mlflow(Requirements("vm", mlflow=lock), running)
    assert result.level == level
    assert ("404" in result.what) == (level == "fail")


def application(sync: str, health: str, message: str = "") -> dict[str, Any]:
    status = {"sync": {"status": sync}, "health": {"status": health}, "operationState": {"message": message}}
    return {"metadata": {"name": "mlflow", "namespace": "argocd"}, "status": status}


def test_application_that_is_out_of_sync() -> None:
    [result] = health.applications(kubectl(applications=[application("OutOfSync", "Degraded", "hook failed")]))
    assert (result.check, result.level) == ("application mlflow", "fail")
    assert result.what == "OutOfSync, Degraded: hook failed"
    assert result.fix == "kubectl -n argocd describe application mlflow"
    assert [one.level for one in health.applications(kubectl(applications=[application("Synced", "Healthy")]))] == [
        "ok"
    ]


def test_without_argocd_there_are_no_applications() -> None:
    assert health.applications(kubectl()) == []


def pod(path: str, reason: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": reason, "message": "about it"}} if reason else {"running": {}}
    conditions = [{"type": "Ready", "status": "False" if reason else "True"}]
    boxes = [{"name": "main", "ready": not reason, "state": state, "restartCount": 0}]
    return {**named(path), "status": {"phase": "Running", "conditions": conditions, "containerStatuses": boxes}}


def test_pod_that_is_not_well() -> None:
    [result] = health.pods(kubectl(pods=[pod("mlops/minio-0", "CrashLoopBackOff"), pod("mlops/ui")]))
    assert (result.check, result.level, result.what) == ("pod minio-0", "fail", "main: CrashLoopBackOff about it")
    assert "kubectl -n mlops logs minio-0" in result.fix


def test_pod_whose_image_is_missing() -> None:
    [result] = health.pods(kubectl(pods=[pod("mlops/ui", "ErrImagePull")]))
    assert result.fix == "see the line of its image above"


def test_pods_that_are_well() -> None:
    [result] = health.pods(kubectl(pods=[pod("mlops/a"), pod("mlops-jobs/b")]))
    assert result.what == "all 2 are Ready or completed"


def alert(name: str, severity: str, state: str = "firing") -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": severity}, "state": state, "annotations": {"summary": "s"}}


def test_alerts_that_are_firing() -> None:
    result = health.alerts(
        [
            alert("PostgresDown", "critical"),
            alert("NoRunLately", "warning"),
            alert("A", "critical", "pending"),
            alert("Watchdog", "none"),
        ]
    )
    assert [(one.check, one.level) for one in result] == [("alert PostgresDown", "fail"), ("alert NoRunLately", "warn")]
    assert result[0].fix == "charts/monitoring/runbooks/PostgresDown.md"
    assert health.alerts([])[0].level == "ok"


class Pods:
    """Runs the probe's pods: the server starts, a call succeeds if the connection is as it wants."""

    def __init__(self, network: bool = True, enforced: bool = True, starts: bool = True) -> None:
        self.network, self.enforced, self.starts = network, enforced, starts
        self.objects: dict[str, dict[str, Any]] = {}
        self.policies = 0
        self.namespaces: list[str] = []

    def run(self, *words: str, stdin: str = "") -> str:
        if words[0] == "delete":
            self.namespaces.remove(words[2])
            return ""
        item = json.loads(stdin)
        if item["kind"] == "Namespace":
            self.namespaces.append(item["metadata"]["name"])
        self.policies += item["kind"] == "NetworkPolicy"
        self.objects[item["metadata"]["name"]] = item
        return ""

    def get(self, *words: str) -> dict[str, Any]:
        name = words[-1]
        if name == "server":
            status = {"phase": "Running", "podIP": "10.44.0.9"} if self.starts else {"phase": "Pending"}
        else:
            opened = self.network and not (self.policies and self.enforced)
            status = {"phase": "Succeeded" if opened == (name == "open") else "Failed"}
        return {"metadata": {"name": name}, "status": status}


def probe(pods: Pods) -> Any:
    result = policies.probe(policies.Kube(pods.run, pods.get), "localhost/house/pipeline:1", 2, sleep=lambda _: None)
    assert pods.namespaces == [], "the probe's namespace stays behind"
    return result


def test_policies_that_are_enforced() -> None:
    assert probe(Pods()).level == "ok"


def test_policies_that_nothing_enforces() -> None:
    result = probe(Pods(enforced=False))
    assert (result.level, "policies are not enforced" in result.what) == ("fail", True)
    assert "without --disable-network-policy" in result.fix


def test_pods_that_cannot_reach_each_other_prove_nothing() -> None:
    result = probe(Pods(network=False))
    assert (result.level, "although no policy denies it" in result.what) == ("fail", True)


def test_probe_that_does_not_start() -> None:
    assert "the probe's server did not start" in probe(Pods(starts=False)).what


@pytest.mark.parametrize(
    ("settings", "evicts"),
    [
        (
            {"imageGCHighThresholdPercent": 100, "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"}},
            False,
        ),
        (
            {"imageGCHighThresholdPercent": 85, "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"}},
            True,
        ),
        ({"imageGCHighThresholdPercent": 100, "evictionHard": {"nodefs.available": "10%"}}, True),
        (None, True),
    ],
    ids=["kind", "images only", "pods only", "not readable"],
)
def test_kubelet_that_evicts_on_a_full_disk(settings: dict[str, Any] | None, evicts: bool) -> None:
    def raw(path: str) -> str:
        assert path == "/api/v1/nodes/house/proxy/configz"
        if settings is None:
            raise Failure("forbidden")
        return json.dumps({"kubeletconfig": settings})

    assert cluster.evicts_on_full_disk(kubectl(nodes=[node(Ready="True")]), raw) == evicts
