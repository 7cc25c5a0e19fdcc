"""Hands a running platform from Helm to Argo CD, or back. Only the owner of its objects changes.

Both render the same objects, so no pod is replaced. The records of the former owner are removed: Helm's release,
because Helm would otherwise try to upgrade it; and the ownership of fields, because fields that the new owner does
not set would otherwise stay.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ci.argocd import sync
from ci.common.console import Failure
from ci.common.kube import PLATFORM, RELEASE, Object, kube

HELM = ("helm", ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace"))
ARGO = ("argocd-controller", ("argocd.argoproj.io/tracking-id",))
ATTEMPTS = 5


def to_argocd() -> int:
    """Remove the record of Helm's release after Argo CD synced everything; returns the number of these objects."""
    kube("-n", PLATFORM, "delete", "secret", "-l", f"owner=helm,name={RELEASE}", "--ignore-not-found")
    return disown(managed(), *HELM)


def to_helm(env: str, extra: list[str]) -> int:
    """Delete the Applications, leave their objects, and make them a release of Helm; returns their number.

    Raises:
        Failure: not every Application is Synced: what is not as Git says now would be so after Helm's turn.
    """
    from ci.deploy import (
        platform,
    )  # imported here: it needs packages, and a bundle's installer has only the standard library

    differing = [name for name, item in sync.applications().items()
                 if item.get("status", {}).get("sync", {}).get("status") != "Synced"]  # fmt: skip
    if differing:
        raise Failure(f"not Synced: {', '.join(sorted(differing))}; `make gitops-status` shows the reason")
    objects = managed()
    sync.delete_all(cascade=False)
    platform.install(env, extra, take_ownership=True)
    return disown(objects, *ARGO)


def managed() -> list[Object]:
    """Every object of the platform that an Application manages: kind, group, namespace (if it has one), name."""
    applications = sync.applications()
    return [
        item for name in applications if name != sync.ROOT for item in applications[name]["status"].get("resources", [])
    ]


def disown(objects: Collection[Object], manager: str, annotations: Collection[str]) -> int:
    """Remove the fields and annotations of a former owner from objects; returns the number of changed objects."""
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(lambda item: _disown(item, manager, annotations), objects))


def _disown(item: Object, manager: str, annotations: Collection[str]) -> bool:
    where = [*(("-n", item["namespace"]) if item.get("namespace") else ())]
    kind = f"{item['kind']}.{item['version']}.{item['group']}" if item.get("group") else item["kind"]
    for _ in range(ATTEMPTS):
        text = kube(*where, "get", kind, item["name"], "--show-managed-fields", "-o", "json", "--ignore-not-found")
        changes = _changes(json.loads(text)["metadata"], manager, annotations) if text else []
        if not changes:
            return False
        # the API server refuses the patch if a controller wrote in between: read again
        done = kube(*where, "patch", kind, item["name"], "--type=json", "--field-manager=make-gitops", "-o", "name",
                    "-p", json.dumps(changes), check=False)  # fmt: skip
        if done:
            return True
    raise Failure(f"{item['kind']} {item['name']} is still owned by {manager}: it changed at each of {ATTEMPTS} tries")


def _changes(metadata: Object, manager: str, annotations: Collection[str]) -> list[dict[str, Any]]:
    """A JSON patch that removes a manager from an object's metadata; empty if it is not there."""
    fields = metadata.get("managedFields", [])
    kept = [entry for entry in fields if entry["manager"] != manager]
    gone = [name for name in annotations if name in metadata.get("annotations", {})]
    if kept == fields and not gone:
        return []
    changes = [{"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}]
    changes += [{"op": "remove", "path": f"/metadata/annotations/{name.replace('/', '~1')}"} for name in gone]
    return [*changes, {"op": "replace", "path": "/metadata/managedFields", "value": kept}]
