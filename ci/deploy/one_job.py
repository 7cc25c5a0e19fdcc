"""Runs a Job that is not a part of the installation, and follows it to its end."""

from __future__ import annotations

import json
import subprocess

from ci.common.console import Failure, wait_for
from ci.common.kube import PLATFORM, Object, environment, get, kube, kubectl
from ci.deploy import workloads

SECONDS = 6 * 3600


def run(wanted: Object, seconds: float = SECONDS) -> None:
    """Run a Job, print its log, and delete it.

    Raises:
        Failure: it failed, did not start, or runs already.
    """
    name = wanted["metadata"]["name"]
    if kube("-n", PLATFORM, "get", "job", name, "-o", "name", "--ignore-not-found"):
        raise Failure(f"Job/{name} runs already, or was interrupted: `kubectl -n {PLATFORM} delete job {name}`")
    kube("create", "-f", "-", stdin=json.dumps(wanted))
    try:
        wait_for(f"the start of Job/{name}", lambda: _started(name), 300)
        subprocess.run([kubectl(), "-n", PLATFORM, "logs", "-f", f"job/{name}"], env=environment(), check=False)
        wait_for(f"the end of Job/{name}", lambda: bool(_ended(name)), seconds)
        if _ended(name) != "succeeded":
            raise Failure(f"Job/{name} failed: its log above shows the reason")
    finally:
        kube("-n", PLATFORM, "delete", "job", name, "--ignore-not-found", "--timeout=120s", timeout=150)


def _started(name: str) -> bool:
    pods = get("-n", PLATFORM, "pods", "-l", f"batch.kubernetes.io/job-name={name}")["items"]
    for pod in pods:
        if why := workloads.hopeless(pod):
            raise Failure(f"Job/{name} cannot start: {why}")
    return any(pod["status"].get("phase") not in (None, "Pending", "Unknown") for pod in pods)


def _ended(name: str) -> str:
    """`succeeded`, `failed`, or nothing while it runs."""
    status = get("-n", PLATFORM, "job", name).get("status", {})
    return next((result for result in ("succeeded", "failed") if status.get(result)), "")
