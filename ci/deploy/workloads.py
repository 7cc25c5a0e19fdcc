"""Pods and workloads of the platform that are not Ready: their reasons, and waiting for them."""

from __future__ import annotations

import time

from ci.common.console import Failure, say, wait_for
from ci.common.kube import JOBS, PLATFORM, Object, get, trouble

NOT_INSTALLED = f"nothing is installed in the namespace {PLATFORM}: `make install`, or `make gitops`"
# Reasons that do not go away by waiting: a missing image or Secret, or a value that prevents the container's start.
HOPELESS = ("ImagePull", "ErrImage", "InvalidImageName", "CreateContainerConfigError")
PATIENCE = 45.0  # seconds before such a reason counts: a Secret or an image may still arrive


def pods(namespace: str = PLATFORM) -> list[Object]:
    """The pods of a namespace."""
    items: list[Object] = get("-n", namespace, "pods")["items"]
    return items


def _events(namespace: str) -> str:
    rows = get("-n", namespace, "events", "--field-selector", "type=Warning")["items"]
    rows.sort(key=lambda row: row.get("lastTimestamp") or row.get("eventTime") or "")
    return "\n".join(f"  {row['involvedObject']['name']}: {row['reason']}: {row['message'][:300]}" for row in rows[-8:])


def late_workloads(namespace: str = PLATFORM) -> list[str]:
    """Names of workloads that do not have all their replicas ready yet, without the Jobs of CronJobs."""
    late = []
    for item in get("-n", namespace, "deployments,statefulsets,jobs")["items"]:
        status, name = item.get("status", {}), f"{item['kind'].lower()}/{item['metadata']['name']}"
        if item["kind"] == "Job":
            owners = item["metadata"].get("ownerReferences", [])
            if any(owner["kind"] == "CronJob" for owner in owners):
                continue  # runs now and then, and may fail: it is not a part of the installation
            if not status.get("succeeded"):
                late.append(name)
            continue
        wanted = item["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
        new_and_ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0)) >= wanted
        old_gone = status.get("replicas", 0) <= wanted
        if not (seen and new_and_ready and old_gone):
            late.append(name)
    return late


def hopeless(pod: Object) -> str:
    """Reason why waiting does not help a pod; "" if it is Ready or may still become so."""
    why = trouble(pod)
    return why if any(word in why for word in HOPELESS) else ""


def wait_ready(seconds: float = 420, namespace: str = PLATFORM) -> None:
    """Wait for every workload but the predictor, which is Ready once the first model is promoted.

    Raises:
        Failure: a pod is not Ready. The text has each such pod with its reason, and the last warnings.
    """
    reported: set[str] = set()
    since: dict[str, float] = {}  # time when a pod first had such a reason

    def ready() -> bool:
        late = set(late_workloads(namespace)) - {"deployment/fastapi"}
        if late != reported:
            say(f"waiting for {', '.join(sorted(late))}" if late else "all workloads are Ready")
            reported.clear()
            reported.update(late)
        stuck = {pod["metadata"]["name"] for pod in pods(namespace) if hopeless(pod)}
        now = time.monotonic()
        since.update({name: since.get(name, now) for name in stuck})
        lost = sorted(name for name in stuck if now - since[name] > PATIENCE)
        if late and lost:
            raise Failure(f"waiting does not help {', '.join(lost)}")
        return not late

    try:
        wait_for("the platform", ready, seconds, every=2)
    except Failure as slow:
        reasons = "\n".join(f"  {pod['metadata']['name']}: {why}" for pod in pods(namespace) if (why := trouble(pod)))
        raise Failure(f"{slow}\nnot Ready:\n{reasons}\nlast warnings:\n{_events(namespace)}") from slow


def status() -> int:
    """Print every pod of the platform; returns the number of pods that are not Ready.

    Raises:
        Failure: the platform is not installed.
    """
    every = [*pods(PLATFORM), *pods(JOBS)]
    if not every:
        raise Failure(NOT_INSTALLED)
    bad = 0
    for pod in every:
        why, name = trouble(pod), pod["metadata"]
        bad += bool(why)
        restarts = sum(box["restartCount"] for box in pod["status"].get("containerStatuses", []))
        say(f"{name['namespace']:<11} {name['name']:<42} {why or 'Ready'} (restarts: {restarts})")
    return bad
