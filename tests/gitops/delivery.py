"""Helpers that deliver commits to Argo CD and read the state of the platform."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import yaml

from ci.argocd import served, sync
from ci.common.kube import JOBS, PLATFORM, get, trouble
from ci.common.paths import CHECKOUT
from ci.deploy import workloads

ENV = "kind"
VALUES = f"values/{ENV}.yaml"


def deliver(changes: Mapping[str, str | None] | None = None, message: str = "") -> str:
    """Commit the checkout with `changes` and make Argo CD refresh; returns the revision."""
    revision = served.push(ENV, changes, message)
    sync.refresh()
    return revision


def restore() -> float:
    """Commit the unchanged checkout and wait until all is in sync; returns the seconds that this took."""
    began = time.monotonic()
    sync.wait(deliver(message="as the checkout"), 420)
    return time.monotonic() - began


def with_value(path: str, value: object, file: str = VALUES) -> dict[str, str]:
    """A change for `deliver`: the values file with `value` at `path`."""
    values = yaml.safe_load((CHECKOUT / file).read_text())
    *folders, last = path.split(".")
    section = values
    for name in folders:
        section = section.setdefault(name, {})
    section[last] = value
    return {file: yaml.safe_dump(values)}


def ready_pods(name: str) -> dict[str, dict[str, Any]]:
    """Ready pods of a component, by name."""
    return {pod["metadata"]["name"]: pod for pod in workloads.pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == name and not trouble(pod)
            and "deletionTimestamp" not in pod["metadata"]}  # fmt: skip


def running() -> dict[str, tuple[str, int]]:
    """Uid and restarts of each long-running pod of the platform. Pods of Jobs do not count."""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"],
                                      sum(box["restartCount"] for box in pod["status"]["containerStatuses"]))
            for pod in workloads.pods() if pod["spec"]["restartPolicy"] == "Always"}  # fmt: skip


def volumes() -> dict[str, str]:
    """Volume of each PersistentVolumeClaim of the platform."""
    claims = [item for space in (PLATFORM, JOBS) for item in get("-n", space, "pvc")["items"]]
    return {item["metadata"]["name"]: item["spec"]["volumeName"] for item in claims}
