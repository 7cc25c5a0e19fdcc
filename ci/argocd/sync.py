"""Compares the cluster with Git: waits after a delivery, and watches for drift."""

from __future__ import annotations

import time
from collections.abc import Collection

from ci.argocd.apply import NAMESPACE
from ci.common.console import Failure, say, wait_for
from ci.common.kube import PART_OF, Object, get, kube

ROOT = "house-platform"
PROJECTS = ("house-platform", "house-platform-root")


def applications() -> dict[str, Object]:
    """Root and components, by name.

    Raises:
        Failure: Argo CD is not installed.
    """
    try:
        items = get("-n", NAMESPACE, "applications.argoproj.io")["items"]
    except Failure as failed:
        if "doesn't have a resource type" in str(failed):
            raise Failure("Argo CD is not installed here: `make gitops` installs it, and the platform") from failed
        raise
    return {item["metadata"]["name"]: item for item in items if item["spec"]["project"] in PROJECTS}


def components(root: Object) -> list[str]:
    """Names of the Applications of the root."""
    return [item["name"] for item in root.get("status", {}).get("resources", []) if item["kind"] == "Application"]


def late(application: Object, revision: str) -> str:
    """Reason why an Application is not `Synced Healthy Succeeded` at a revision, in one line; empty if it is.

    Health alone is not enough: for some seconds after a change it belongs to the older revision.
    """
    source, status = application["spec"]["source"], application.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    errors = [f"{item['type']}: {item['message']}" for item in status.get("conditions", []) if "Error" in item["type"]]
    if errors:
        return _short("; ".join(errors))
    if application["metadata"]["name"] != ROOT and source["targetRevision"] != revision:
        return f"does not know of {revision[:7]}"
    if sync.get("revision") != revision:
        return f"not compared with {revision[:7]} yet"
    other = (operation.get("syncResult") or {}).get("revision", revision) != revision
    past = other and sync["status"] == "Synced" and operation["phase"] in ("Failed", "Error")
    # the result of an operation at another commit does not count if there is nothing to sync at this one
    if operation.get("phase") not in ("Succeeded", None) and not past:
        return _short(f"sync {operation['phase'].lower()}: {operation.get('message', '')}")
    if sync["status"] != "Synced":
        differing = [f"{item['kind']}/{item['name']}" for item in status.get("resources", [])
                     if item.get("status") != "Synced"]  # fmt: skip
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        return _short(f"{sync['status']}: {', '.join(differing[:3])}{more}")
    if "phase" not in operation:
        return "never synced"
    health = status.get("health", {}).get("status", "Unknown")
    if health != "Healthy":
        ill = [item["name"] if item["kind"] == "Application"  # an Application has its own line
               else f"{item['kind']}/{item['name']} {item['health'].get('message', '')}".strip()
               for item in status.get("resources", [])
               if item.get("health", {}).get("status", "Healthy") != "Healthy"]  # fmt: skip
        return _short(f"{health}: {', '.join(ill)}".removesuffix(": "))
    return ""


def _short(text: str, length: int = 500) -> str:
    """The text in one line. The middle of a long text is left out, because Argo CD puts the reason last."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:100]} ... {line[105 - length :]}"


def all_late(revision: str) -> dict[str, str]:
    """Applications that are not synced to a revision: name to reason. Includes missing components."""
    present = applications()
    if ROOT not in present:
        return {ROOT: "there is no root Application"}
    reasons = {name: late(item, revision) for name, item in present.items()}
    reasons |= {name: "does not exist yet" for name in components(present[ROOT]) if name not in present}
    return {name: why for name, why in sorted(reasons.items()) if why}


def refresh() -> None:
    """Make Argo CD read Git now, like a webhook."""
    kube("-n", NAMESPACE, "annotate", "--overwrite", "application", ROOT, "argocd.argoproj.io/refresh=normal")


def wait(revision: str, seconds: float = 600, but: Collection[str] = ()) -> None:
    """Wait until the root and every component are `Synced Healthy Succeeded` at a revision, except those in `but`.

    The root's health includes all components, so with `but` the root is not waited for.

    Raises:
        Failure: timeout. The text has each late Application with its reason.
    """
    printed: dict[str, str] = {}

    def left() -> dict[str, str]:
        root_waits = but and components(applications().get(ROOT, {}))
        left_out = {*but, ROOT} if root_waits else set()
        reasons = all_late(revision)
        _tell(printed, reasons, f"Synced Healthy Succeeded at {revision[:7]}")
        return {name: why for name, why in reasons.items() if name not in left_out}

    def done() -> bool:
        return not left()

    try:
        wait_for(f"all Applications at {revision[:7]}", done, seconds, every=1)
    except Failure as slow:
        raise Failure(f"{slow}\n" + "\n".join(f"  {name}: {why}" for name, why in left().items())) from slow


def _tell(printed: dict[str, str], now: dict[str, str], green: str) -> None:
    """Print changed reasons, one line for all Applications with the same reason, and update `printed` to `now`."""
    news = {name: why for name, why in now.items() if printed.get(name) != why}
    news |= {name: green for name in printed if name not in now}
    for why in dict.fromkeys(news.values()):
        say(f"{', '.join(name for name in news if news[name] == why)}: {why}")
    printed.clear()
    printed.update(now)


def watch(seconds: float, every: float = 1) -> list[str]:
    """Watch for drift. Returns a line for each time that an Application was not Synced or Argo CD synced one."""
    seen: list[str] = []
    before: dict[str, tuple[str, str]] = {}
    looks, end, last_report = 0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        now = {name: _marks(item) for name, item in applications().items()}
        looks += 1
        for name, marks in now.items():
            if marks != before.get(name, marks) or (not before and marks[0] != "Synced"):
                seen.append(f"{name}: {marks[0]}, last sync began {marks[1]}")
                say(seen[-1])
        before = now
        if time.monotonic() - last_report > 60:
            last_report = time.monotonic()
            say(f"{looks} looks at {len(now)} Applications, {len(seen)} times of drift or sync")
        time.sleep(every)
    say(f"{looks} looks at {len(before)} Applications in {seconds:.0f} s: {len(seen)} times of drift or sync")
    return seen


def _marks(application: Object) -> tuple[str, str]:
    status: Object = application.get("status", {})
    return status.get("sync", {}).get("status", "Unknown"), status.get("operationState", {}).get("startedAt", "never")


def table() -> str:
    """Every Application with sync, health, last operation and revision."""
    rows = [f"{'application':<15} {'sync':<10} {'health':<12} {'operation':<10} revision"]
    for name, item in sorted(applications().items()):
        sync, health, operation = (item.get("status", {}).get(key, {}) for key in ("sync", "health", "operationState"))
        rows.append(
            f"{name:<15} {sync.get('status', '-'):<10} {health.get('status', '-'):<12} "
            f"{operation.get('phase', '-'):<10} {sync.get('revision', '-')[:12]}"
        )
    return "\n".join(rows)


def delete_all(seconds: float = 240, cascade: bool = True) -> None:
    """Delete root and components, and the components' objects except postgres and minio.

    Without `cascade`, every object stays.
    """
    kube("-n", NAMESPACE, "delete", "application", ROOT, "--ignore-not-found")
    for name in () if cascade else applications():
        kube("-n", NAMESPACE, "patch", "application", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    kube("-n", NAMESPACE, "delete", "applications", "-l", PART_OF, "--wait=false", check=False)
    wait_for("the end of all Applications", lambda: not applications(), seconds, every=1)
