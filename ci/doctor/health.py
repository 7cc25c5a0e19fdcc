"""Checks the health of the installed platform: its Applications, pods and alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ci.common.console import Failure
from ci.common.kube import JOBS, PLATFORM, Get, trouble
from ci.doctor.result import Result, fail, ok, warn


def applications(get: Get) -> list[Result]:
    """Check every Application of Argo CD; no result if Helm delivers."""
    try:
        items = get("applications.argoproj.io", "-A")["items"]
    except Failure:
        return []
    results = []
    for item in items:
        name, status = item["metadata"]["name"], item.get("status", {})
        sync, health = (status.get(key, {}).get("status", "Unknown") for key in ("sync", "health"))
        if (sync, health) == ("Synced", "Healthy"):
            results.append(ok(f"application {name}", "Synced, Healthy"))
            continue
        messages = [condition["message"] for condition in status.get("conditions", [])]
        messages += [status.get("operationState", {}).get("message", "")]
        results.append(
            fail(
                f"application {name}",
                f"{sync}, {health}: {next(filter(None, messages), 'no message')}",
                f"kubectl -n {item['metadata'].get('namespace', 'argocd')} describe application {name}",
            )
        )
    return results


def pods(get: Get) -> list[Result]:
    """Check every pod of the platform; one result for all healthy pods."""
    results, well = [], 0
    for namespace in (PLATFORM, JOBS):
        for pod in get("-n", namespace, "pods")["items"]:
            why, name = trouble(pod), pod["metadata"]["name"]
            well += not why
            fix = f"kubectl -n {namespace} describe pod {name}; kubectl -n {namespace} logs {name} --all-containers"
            if "ImagePull" in why or "ErrImage" in why:
                fix = "see the line of its image above"
            if why and namespace == JOBS:
                results.append(warn(f"pod {name}", why, fix))
            elif why:
                results.append(fail(f"pod {name}", why, fix))
    return results if results else [ok("pods", f"all {well} are Ready or completed")]


def alerts(active: Iterable[dict[str, Any]]) -> list[Result]:
    """One result per firing alert of Prometheus' `/api/v1/alerts`, but for those that always fire (severity `none`)."""
    results = []
    for one in active:
        labels, notes = one["labels"], one.get("annotations", {})
        if one["state"] != "firing" or labels.get("severity") == "none":
            continue
        level = fail if labels.get("severity") == "critical" else warn
        name = labels["alertname"]
        what = notes.get("summary") or notes.get("description") or "no summary"
        results.append(
            level(f"alert {name}", what, notes.get("runbook_url") or f"charts/monitoring/runbooks/{name}.md")
        )
    return results or [ok("alerts", "none is firing")]
