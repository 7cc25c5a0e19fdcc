"""Several nodes: pods spread over the nodes, leave a lost node, and never block a drain.

Pods that mount a ReadWriteOnce claim are bound to one node, because the volume may be local (local-path).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
import yaml

from ci.common.console import Failure
from tests.kit.rendering import (
    COMPONENTS,
    JOB_STATES,
    Object,
    Workload,
    find,
    objects,
    parse,
    pod_template,
    text,
    workloads,
)

LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
ENDING = ("Job", "CronJob", "PodTemplate")  # their pods terminate by themselves
ONE_NODE = {"vm"}  # environments with one machine

# Per component: paths of the values that place pods, and the workloads that they place.
PLACES = {
    "postgres": {"": {"postgres", "postgres-exporter", "backup"}},
    "minio": {"": {"minio", "minio-provision"}},
    "mlflow": {"": {"mlflow"}},
    "fastapi": {"": {"fastapi", "fastapi-batch"}},
    "oauth2-proxy": {"": {"oauth2-proxy"}},
    "streamlit": {"": {"streamlit"}},
    "datasource": {"": {"datasource"}},
    "airflow": {
        "api.": {"airflow-api", "airflow-migrate", "airflow-clean"},
        "scheduler.": {"airflow-scheduler"},
        "dagProcessor.": {"airflow-dag-processor"},
        "pipeline.": {"pipeline", "pipeline-smoke", "pipeline-retention"},
    },
    "monitoring": {
        "prometheus.": {"prometheus"},
        "alertmanager.": {"alertmanager"},
        "grafana.": {"grafana"},
        "kubeStateMetrics.": {"kube-state-metrics"},
    },
}
SELECTOR = {"pool": "of-a-test"}
TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "of-a-test", "effect": "NoSchedule"}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]}}}  # fmt: skip


def claims(workload: Workload) -> list[Object]:
    """Claims that a workload's pods mount: per pod, and shared."""
    shared = [find(objects(workload.variant), "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
              for volume in workload.pod.get("volumes", []) if "persistentVolumeClaim" in volume]  # fmt: skip
    return [*workload.item.get("spec", {}).get("volumeClaimTemplates", []), *shared]


def bound(workload: Workload) -> bool:
    """True if the pods of the workload can start only on the node of their volume."""
    return any(claim["spec"]["accessModes"] != ["ReadWriteMany"] for claim in claims(workload))


def replicas(workload: Workload) -> int:
    """Maximum number of pods at once."""
    scalers = [item["spec"]["maxReplicas"] for item in objects(workload.variant)
               if item["kind"] == "HorizontalPodAutoscaler"
               and (item["spec"]["scaleTargetRef"]["kind"], item["spec"]["scaleTargetRef"]["name"])
               == (workload.kind, workload.item["metadata"]["name"])]  # fmt: skip
    return int(max([workload.item.get("spec", {}).get("replicas", 1), *scalers]))


def seconds_on_a_lost_node(workload: Workload) -> list[int | None]:
    """Seconds that a pod stays, for both taints of a lost node; None means the default of Kubernetes (300)."""
    seconds = {}
    for toleration in workload.pod.get("tolerations", []):
        if toleration.get("effect") == "NoExecute":
            assert toleration["operator"] == "Exists", f"{workload.name}: {toleration}"
            seconds[toleration["key"]] = toleration["tolerationSeconds"]
    return [seconds.get(taint) for taint in LOST]


# spread


def test_several_pods_spread_over_the_nodes(workload: Workload) -> None:
    constraints = workload.pod.get("topologySpreadConstraints", [])
    if replicas(workload) == 1:
        assert constraints == [], f"{workload.name}: a single pod needs no spread constraint"
        return
    [constraint] = [one for one in constraints if one["topologyKey"] == "kubernetes.io/hostname"]
    assert constraint["maxSkew"] == 1, f"{workload.name}: {constraint}"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", (
        f"{workload.name}: a lost node must not keep a pod Pending"
    )
    assert constraint["labelSelector"] == workload.item["spec"]["selector"], f"{workload.name}: {constraint}"
    assert constraint["matchLabelKeys"] == ["pod-template-hash"], (
        f"{workload.name}: the old pods of a rolling update count as well"
    )


def test_several_pods_are_not_bound_to_one_node(workload: Workload) -> None:
    if replicas(workload) > 1 and workload.variant not in ONE_NODE:
        assert not bound(workload), (
            f"{workload.name}: all its pods would run on the node of the claims {claims(workload)}"
        )


def test_every_shared_claim_has_one_workload(variant: str) -> None:
    """Two workloads with the same claim would have to run on the same node."""
    users = Counter(claim["metadata"]["name"] for workload in workloads(variant)
                    for claim in claims(workload) if claim.get("kind") == "PersistentVolumeClaim"
                    and "namespace" in claim["metadata"])  # fmt: skip
    assert all(count == 1 for count in users.values()), users


def test_no_workload_names_a_node_or_a_host_port(variant: str) -> None:
    for workload in workloads(variant):
        assert "nodeName" not in workload.pod, f"{workload.name}: nodeName"
        assert not workload.pod.get("hostNetwork"), f"{workload.name}: hostNetwork"
        for volume in workload.pod.get("volumes", []):
            assert "hostPath" not in volume, f"{workload.name}: {volume['name']}: hostPath"
        for container in workload.containers:
            assert all("hostPort" not in port for port in container.get("ports", [])), f"{workload.name}: hostPort"
    for service in (item for item in objects(variant) if item["kind"] == "Service"):
        for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
            assert service["spec"].get(field, "Cluster") == "Cluster", f"{service['metadata']['name']}: {field}"


# drains


def budgets(items: list[Object]) -> list[Object]:
    return [item for item in items if item["kind"] == "PodDisruptionBudget"]


def test_no_budget_blocks_a_drain_forever(variant: str) -> None:
    """`kubectl drain` waits for a budget that allows no eviction, or whose pods cannot start elsewhere."""
    for budget in budgets(objects(variant)):
        where, spec = f"PodDisruptionBudget {budget['metadata']['name']}", budget["spec"]
        assert spec.get("maxUnavailable", 0) >= 1, f"{where}: with minAvailable, too few pods block the drain"
        assert "minAvailable" not in spec, where
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow", f"{where}: pods that are not Ready block the drain"
        [workload] = [w for w in workloads(variant) if spec["selector"]["matchLabels"].items() <= w.labels.items()]
        assert not bound(workload), f"{where}: the first evicted pod cannot start elsewhere, and blocks the next one"
        assert replicas(workload) > 1, f"{where}: a single pod needs no budget"


def test_several_pods_that_may_move_have_a_budget(workload: Workload) -> None:
    matching = [budget for budget in budgets(objects(workload.variant))
             if budget["spec"]["selector"]["matchLabels"].items() <= workload.labels.items()]  # fmt: skip
    wanted = replicas(workload) > 1 and not bound(workload)
    assert len(matching) == wanted, f"{workload.name}: {len(matching)} budgets"


@pytest.mark.parametrize(("mode", "count"), [("ReadWriteOnce", 0), ("ReadWriteMany", 1)])
def test_no_budget_if_the_predictors_share_a_volume_of_one_node(mode: str, count: int) -> None:
    persistence = f"fastapi.cache.persistence.enabled=true,fastapi.cache.persistence.accessMode={mode}"
    items = parse(text("kind", "--set", persistence))
    assert len(budgets(items)) == count
    tolerations = find(items, "Deployment", "fastapi")["spec"]["template"]["spec"].get("tolerations", [])
    assert len(tolerations) == 2 * count, "a pod that cannot start elsewhere has no reason to leave early"


# lost nodes


def test_pod_leaves_a_lost_node_early_if_it_can_start_elsewhere(workload: Workload) -> None:
    """Stages and Jobs keep the default of 300 s: a node that comes back in time continues their work."""
    stays = workload.kind in ENDING or bound(workload)
    wanted = [None, None] if stays else [30, 30]
    assert seconds_on_a_lost_node(workload) == wanted, workload.name


def test_failover_seconds_are_configurable() -> None:
    items = parse(text("kind", "--set", "global.failoverSeconds=7"))
    tolerations = find(items, "Deployment", "mlflow")["spec"]["template"]["spec"]["tolerations"]
    assert [one["tolerationSeconds"] for one in tolerations] == [7, 7]


def test_toleration_in_values_takes_precedence() -> None:
    own = {"key": LOST[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}
    items = parse(text("kind", "--set-json", f"mlflow.tolerations={json.dumps([own])}"))
    tolerations = find(items, "Deployment", "mlflow")["spec"]["template"]["spec"]["tolerations"]
    assert [(one["key"], one["tolerationSeconds"]) for one in tolerations] == [(LOST[0], 600), (LOST[1], 30)]


# placement


@cache
def placed() -> dict[str, list[Object]]:
    """Objects that create pods, by path of the values that place them, rendered with these values set."""
    workloads_by_path = {}
    for chart, paths in PLACES.items():
        for path in paths:
            at = f"{chart}.{path}"
            words = [word for key, value in (("nodeSelector", SELECTOR), ("tolerations", [TOLERATION]),
                                             ("affinity", AFFINITY))
                     for word in ("--set-json", f"{at}{key}={json.dumps(value)}")]  # fmt: skip
            optional = "fastapi.batch.enabled=true,monitoring.grafana.enabled=true,global.backup.enabled=true"
            optional += f",monitoring.kubeStateMetrics.enabled=true,monitoring.kubeStateMetrics.image={JOB_STATES}"
            items = parse(text("kind", "--set", optional, *words))
            workloads_by_path[at] = [item for item in items if pod_template(item)]
    return workloads_by_path


def _base(item: Object) -> str:
    """The name of an object, without the hash of a Job."""
    return re.sub(r"-[0-9a-f]{8}$", "", item["metadata"]["name"])


@pytest.mark.parametrize(("chart", "path"), [(chart, path) for chart, paths in PLACES.items() for path in paths])
def test_placement_values_apply_to_their_workloads_only(chart: str, path: str) -> None:
    moved = {_base(item) for item in placed()[f"{chart}.{path}"] if _is_placed(pod_template(item))}
    assert moved == PLACES[chart][path]


def _is_placed(template: Any) -> bool:
    pod = template["spec"]
    signs = [pod.get("nodeSelector") == SELECTOR, TOLERATION in pod.get("tolerations", []),
             pod.get("affinity") == AFFINITY]  # fmt: skip
    assert len(set(signs)) == 1, f"only some of the placement values apply: {template}"
    return bool(signs[0])


def test_every_workload_can_be_placed() -> None:
    assert set(PLACES) == set(COMPONENTS)
    named = {name for paths in PLACES.values() for names in paths.values() for name in names}
    assert named == {_base(w.item) for w in workloads("everything")}


def test_another_placement_creates_another_job() -> None:
    """The template of a Job is immutable, so an upgrade under the same name would fail."""

    def jobs(items: list[Object]) -> set[str]:
        return {item["metadata"]["name"] for item in items if item["kind"] == "Job"
                and item["metadata"]["name"].startswith(("minio-", "airflow-"))}  # fmt: skip

    before = jobs(objects("kind"))
    for path, prefix in (("minio.", "minio-"), ("airflow.api.", "airflow-")):
        new = jobs(placed()[path]) - before
        assert [name.startswith(prefix) for name in new] == [True], f"{path}: {new}"


# addresses of nodes


def egress(items: list[Object], policy: str, port: int) -> list[str]:
    """Networks outside the pod network that a policy opens on a port."""
    return [peer["ipBlock"]["cidr"] for rule in find(items, "NetworkPolicy", policy)["spec"]["egress"]
            if [entry["port"] for entry in rule["ports"]] == [port]
            for peer in rule["to"] if "ipBlock" in peer]  # fmt: skip


def test_prometheus_reaches_the_kubelet_of_every_node() -> None:
    nodes = ["10.46.0.1/32", "10.46.0.2/32", "10.46.0.3/32"]
    items = parse(text("kind", "--set", f"global.nodes.cidr={{{','.join(nodes)}}}"))
    assert egress(items, "prometheus", 10250) == nodes
    assert egress(objects("kind"), "prometheus", 10250) == ["10.46.0.1/32"], (
        "with one node, its address is that of the API server"
    )


def test_egress_covers_every_api_server() -> None:
    servers = ["10.46.0.1/32", "10.46.0.2/32", "10.46.0.3/32"]
    items = parse(text("kind", "--set", f"global.kubeApi.cidr={{{','.join(servers)}}}"))
    for policy in ("airflow-scheduler", "prometheus"):
        assert egress(items, policy, 6443) == servers
    assert egress(items, "prometheus", 10250) == servers


def test_empty_list_of_addresses_is_refused() -> None:
    """A rule without peers would allow every destination."""
    for path in ("kubeApi", "nodes"):
        with pytest.raises(Failure, match=path):
            text("kind", "--set-json", f"global.{path}.cidr=[]")


def test_prometheus_discovers_the_nodes(variant: str) -> None:
    config = yaml.safe_load(find(objects(variant), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name in ("kubelet", "cadvisor"):
        assert jobs[name]["kubernetes_sd_configs"] == [{"role": "node"}], f"{name}: every node is a target"
