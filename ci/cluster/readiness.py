"""Waits until the kind cluster is ready: the API server, nodes, DNS, storage and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ci.cluster import settings
from ci.cluster.containers import nodes
from ci.cluster.docker import Docker
from ci.common.console import Failure, run, wait_for
from ci.common.kube import trouble

# Deployments (namespace, name) that must be ready on a new cluster, besides every DaemonSet.
ADD_ONS = (
    ("kube-system", "coredns"),
    ("local-path-storage", "local-path-provisioner"),
    ("kube-system", "metrics-server"),
)


def kubectl(*words: str, check: bool = True) -> str:
    """Run kubectl on the kind cluster and return its output."""
    command: list[str | Path] = [settings.kubectl_path(), "--kubeconfig", settings.kubeconfig_path(), *words]
    return run(command, check=check).stdout


def not_ready() -> list[str]:
    """Nodes, add-ons and DaemonSets that are not ready; `the API server` if it does not answer.

    Pods are counted one by one: after a restart of all nodes, the status of a Deployment still is the one from before,
    until the controller manager works again.
    """
    present = _items("nodes")
    if not present:
        return ["the API server"]
    late = []
    for node in present:
        conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
        if conditions.get("Ready") != "True":
            late.append(f"node {node['metadata']['name']}")
    pods = [pod for pod in _items("pods", "-A") if not trouble(pod) and "deletionTimestamp" not in pod["metadata"]]
    deployments = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in _items("deployments", "-A")}
    for key in ADD_ONS:
        if key not in deployments or not _is_rolled_out(deployments[key], pods):
            late.append(f"deployment {'/'.join(key)}")
    for one in _items("daemonsets", "-n", "kube-system"):
        if _count(pods, one) < max(one["status"].get("desiredNumberScheduled", 0), 1):
            late.append(f"daemonset {one['metadata']['name']}")
    return late


def _is_rolled_out(deployment: dict[str, Any], pods: list[dict[str, Any]]) -> bool:
    status, wanted = deployment.get("status", {}), int(deployment["spec"]["replicas"])
    updated = int(status.get("updatedReplicas", 0))
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    return min(_count(pods, deployment), updated) >= wanted


def _count(pods: list[dict[str, Any]], workload: dict[str, Any]) -> int:
    """How many of the pods belong to a Deployment or DaemonSet."""
    namespace, labels = workload["metadata"]["namespace"], workload["spec"]["selector"]["matchLabels"].items()
    return sum(pod["metadata"]["namespace"] == namespace and labels <= pod["metadata"].get("labels", {}).items()
               for pod in pods)  # fmt: skip


def unsettled(engine: Docker) -> list[str]:
    """Pods whose state in the API server is still the one from before their node restarted.

    Returns `the API server` if it does not answer.
    """
    tasks: set[str] = set()
    for node in nodes(engine):
        tasks |= set(engine.run("exec", node, "ctr", "-n", "k8s.io", "tasks", "ls", "-q", check=False).split())

    def settled(pod: dict[str, Any], container: dict[str, Any]) -> bool:
        runs = "running" in container["state"]
        if "deletionTimestamp" in pod["metadata"] or pod["spec"]["restartPolicy"] == "Never":
            return not runs or container["containerID"].split("//")[1] in tasks
        if runs:
            return container["containerID"].split("//")[1] in tasks
        return "terminated" not in container["state"] or pod["spec"]["restartPolicy"] != "Always"

    pods = _items("pods", "-A")
    if not pods:
        return ["the API server"]
    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        for container in pod["status"].get("containerStatuses", [])
        if not settled(pod, container)
    ]


def wait_ready(seconds: float = 240) -> None:
    """Wait until `not_ready` is empty.

    Raises:
        Failure: the time is over; names what is not ready and lists all pods.
    """
    waiting: list[str] = []

    def ready() -> bool:
        waiting[:] = not_ready()
        return not waiting

    try:
        wait_for("the cluster", ready, seconds)
    except Failure as late:
        pods = kubectl("get", "pods", "-A", "-o", "wide", check=False)
        raise Failure(f"{late}; not ready: {', '.join(waiting)}\n{pods}") from late


def _items(*words: str) -> list[dict[str, Any]]:
    text = kubectl("get", *words, "-o", "json", "--request-timeout=5s", check=False)
    return json.loads(text)["items"] if text else []
