"""Deliveries to the Argo CD of the present cluster, and what they did to the platform's pods."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import yaml

from ci import platform
from ci.argocd import served, sync
from ci.kube import JOBS, PLATFORM, get, trouble
from ci.paths import CHECKOUT

ENV = "kind"
VALUES = f"values/{ENV}.yaml"


def deliver(changes: Mapping[str, str | None] | None = None, message: str = "") -> str:
    """Commit what the checkout holds with `changes`, and tell Argo CD; returns the revision."""
    revision = served.push(ENV, changes, message)
    sync.refresh()
    return revision


def restore() -> float:
    """Commit what the checkout holds and wait until the cluster is as it says; returns the seconds that took."""
    began = time.monotonic()
    sync.wait(deliver(message="as the checkout"), 420)
    return time.monotonic() - began


def with_value(path: str, value: object, file: str = VALUES) -> dict[str, str]:
    """A file of values with one more, as a change to deliver."""
    values = yaml.safe_load((CHECKOUT / file).read_text())
    *folders, last = path.split(".")
    place = values
    for name in folders:
        place = place.setdefault(name, {})
    place[last] = value
    return {file: yaml.safe_dump(values)}


def ready_pods(name: str) -> dict[str, dict[str, Any]]:
    """Ready pods of a component, by name."""
    return {pod["metadata"]["name"]: pod for pod in platform.pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == name and not trouble(pod)
            and "deletionTimestamp" not in pod["metadata"]}  # fmt: skip


def running() -> dict[str, tuple[str, int]]:
    """Every pod of the platform that serves: name to its uid and restarts. Pods that end by themselves do not count."""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"],
                                      sum(box["restartCount"] for box in pod["status"]["containerStatuses"]))
            for pod in platform.pods() if pod["spec"]["restartPolicy"] == "Always"}  # fmt: skip


def volumes() -> dict[str, str]:
    """Volume behind each claim of the platform."""
    found = [item for space in (PLATFORM, JOBS) for item in get("-n", space, "pvc")["items"]]
    return {item["metadata"]["name"]: item["spec"]["volumeName"] for item in found}
