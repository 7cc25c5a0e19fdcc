"""Every pod meets the standard `restricted`, and has a token for the Kubernetes API only if it calls that API."""

from __future__ import annotations

import yaml

from ci.common.kube import JOBS, PLATFORM
from ci.deploy import cluster_rights
from tests.kit.rendering import Workload, find, name, objects, workloads

KUBE_STATE = "kube-state-metrics"

# The only workloads whose pods get a token for the Kubernetes API, each with its reason.
CALLS_THE_API = {
    "airflow-scheduler": "starts a pod for each stage, follows it, reads its log and deletes it",
    KUBE_STATE: "watches Jobs and CronJobs",
    "prometheus": "lists the nodes, and reads the metrics of their kubelets with the token",
}


def test_pod_is_restricted(workload: Workload) -> None:
    context = workload.pod.get("securityContext", {})
    assert context.get("runAsNonRoot") is True, f"{workload.name}: securityContext.runAsNonRoot is not true"
    assert context.get("runAsUser", 0) > 0, f"{workload.name}: securityContext.runAsUser is not a user id above 0"
    assert context.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{workload.name}: seccompProfile"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        assert not workload.pod.get(field), f"{workload.name}: {field}"


def test_container_is_restricted(workload: Workload) -> None:
    for container in workload.containers:
        where, context = f"{workload.name}: {container['name']}", container.get("securityContext", {})
        assert context.get("allowPrivilegeEscalation") is False, f"{where}: allowPrivilegeEscalation is not false"
        assert context.get("readOnlyRootFilesystem") is True, f"{where}: readOnlyRootFilesystem is not true"
        assert context.get("capabilities") == {"drop": ["ALL"]}, f"{where}: capabilities are not dropped"
        assert not context.get("privileged"), f"{where}: privileged"
        for port in container.get("ports", []):
            assert "hostPort" not in port, f"{where}: hostPort"


def test_volumes_have_types_that_restricted_admits(workload: Workload) -> None:
    for volume in workload.pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        admitted = {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim"}
        assert kinds <= admitted, f"{workload.name}: {volume['name']}: {kinds}"


def test_every_mount_has_its_volume(workload: Workload) -> None:
    volumes = {volume["name"] for volume in workload.pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in workload.item.get("spec", {}).get("volumeClaimTemplates", [])}
    mounted = {mount["name"] for container in workload.containers for mount in container.get("volumeMounts", [])}
    assert mounted == volumes, f"{workload.name}: mounts {sorted(mounted)}, volumes {sorted(volumes)}"


def test_service_account_exists_and_has_a_token_only_if_needed(workload: Workload) -> None:
    account = workload.pod.get("serviceAccountName", "default")
    service_account = find(objects(workload.variant), "ServiceAccount", account, workload.namespace)
    assert service_account["automountServiceAccountToken"] is False, (
        f"ServiceAccount {account}: automountServiceAccountToken"
    )
    wanted = workload.item["metadata"]["name"] in CALLS_THE_API
    mounted = workload.pod.get("automountServiceAccountToken")
    assert mounted is wanted, f"{workload.name}: automountServiceAccountToken is {mounted}, expected {wanted}"
    assert workload.pod.get("enableServiceLinks") is False, f"{workload.name}: enableServiceLinks is not false"


def test_exactly_the_accounts_with_a_token_have_rights(variant: str) -> None:
    """A right without a token is unused, and a token without a right is a key that opens nothing but may later."""
    accounts = {(w.namespace, w.pod["serviceAccountName"]) for w in workloads(variant)
                if w.item["metadata"]["name"] in CALLS_THE_API}  # fmt: skip
    bindings = [item for item in objects(variant) if item["kind"] == "RoleBinding"]
    bindings += [item for item in cluster_rights.objects(PLATFORM) if item["kind"] == "ClusterRoleBinding"]
    subjects = {(subject["namespace"], subject["name"]) for item in bindings for subject in item["subjects"]}
    assert subjects == accounts
    assert {subject["kind"] for item in bindings for subject in item["subjects"]} == {"ServiceAccount"}


def test_every_object_is_in_a_namespace_of_the_platform(variant: str) -> None:
    """Argo CD's project allows nothing else, so that no commit can give itself rights in the whole cluster."""
    for item in objects(variant):
        space = item["metadata"].get("namespace")
        assert space in (PLATFORM, JOBS), f"{name(item)} is in {space or 'no namespace'}"


def test_right_on_nodes_belongs_to_the_account_of_prometheus(variant: str) -> None:
    """`make secrets` binds it, because no chart may. The scrape configuration needs it for two jobs."""
    role, binding = cluster_rights.objects(PLATFORM)
    [subject] = binding["subjects"]
    assert find(objects(variant), subject["kind"], subject["name"], subject["namespace"])
    prometheus = find(objects(variant), "StatefulSet", "prometheus")
    assert prometheus["spec"]["template"]["spec"]["serviceAccountName"] == subject["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    config = yaml.safe_load(find(objects(variant), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    jobs = {job["job_name"]: job["kubernetes_sd_configs"] for job in config["scrape_configs"]
            if "kubernetes_sd_configs" in job}  # fmt: skip
    nodes = [{"role": "node"}]
    assert jobs == {"kubelet": nodes, "cadvisor": nodes}, "other discovery needs other rights"


def test_kube_state_metrics_only_sees_jobs_where_the_platform_has_jobs() -> None:
    """It watches exactly the namespaces in which it has its right, and asks for no other kinds."""
    rendered = objects("everything")
    [args] = [w.containers[0]["args"] for w in workloads("everything") if w.item["metadata"]["name"] == KUBE_STATE]
    options = dict(word.removeprefix("--").split("=") for word in args)
    roles = {item["metadata"]["namespace"]: item["rules"] for item in rendered
             if item["kind"] == "Role" and item["metadata"]["name"] == KUBE_STATE}  # fmt: skip
    assert set(options["namespaces"].split(",")) == set(roles)
    assert set(roles) >= {i["metadata"]["namespace"] for i in rendered if i["kind"] in ("Job", "CronJob")}
    for space, rules in roles.items():
        find(rendered, "RoleBinding", KUBE_STATE, space)
        assert rules == [
            {"apiGroups": ["batch"], "resources": options["resources"].split(","), "verbs": ["list", "watch"]}
        ]


def test_roles_have_no_wildcard(variant: str) -> None:
    for item in objects(variant):
        for rule in item.get("rules") or []:
            for field in ("apiGroups", "resources", "verbs"):
                assert "*" not in rule[field], f"{item['kind']} {item['metadata']['name']}: * in {field}"
