"""Hand a running platform from Helm to Argo CD, or back: who owns its objects changes, and nothing else.

Both render the same objects, so no pod is replaced. What the former owner left behind has to go: Helm's release, or it
would believe that it could upgrade; its ownership of fields, or a field that the new owner leaves out would stay.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ci.argocd import sync
from ci.argocd.apply import Object
from ci.console import Failure
from ci.kube import PLATFORM, RELEASE, kube

HELM = ("helm", ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace"))
ARGO = ("argocd-controller", ("argocd.argoproj.io/tracking-id",))
ATTEMPTS = 5


def to_argocd() -> int:
    """Forget Helm's release, once Argo CD has synced everything; returns the number of objects that changed hands."""
    kube("-n", PLATFORM, "delete", "secret", "-l", f"owner=helm,name={RELEASE}", "--ignore-not-found")
    return disown(managed(), *HELM)


def to_helm(env: str, extra: list[str]) -> int:
    """Delete the Applications, leave their objects, and make them a release of Helm; returns their number.

    Raises:
        Failure: not every Application is Synced: what is not as Git says now would be so after Helm's turn.
    """
    from ci import platform  # needs more than the standard library, which is all that a bundle's installer has

    differing = [name for name, item in sync.applications().items()
                 if item.get("status", {}).get("sync", {}).get("status") != "Synced"]  # fmt: skip
    if differing:
        raise Failure(f"not Synced: {', '.join(sorted(differing))}; `make gitops-status` says why")
    objects = managed()
    sync.delete_all(cascade=False)
    platform.install(env, extra, take_ownership=True)
    return disown(objects, *ARGO)


def managed() -> list[Object]:
    """Every object of the platform that an Application manages: kind, group, namespace (if it has one), name."""
    found = sync.applications()
    return [item for name in found if name != sync.ROOT for item in found[name]["status"].get("resources", [])]


def disown(objects: Collection[Object], manager: str, annotations: Collection[str]) -> int:
    """Take fields and annotations of a former owner off objects, whose content stays; returns the number changed."""
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
        # refused where a controller wrote in between: read again
        done = kube(*where, "patch", kind, item["name"], "--type=json", "--field-manager=make-gitops", "-o", "name",
                    "-p", json.dumps(changes), check=False)  # fmt: skip
        if done:
            return True
    raise Failure(f"{item['kind']} {item['name']} is still owned by {manager}: it changed at each of {ATTEMPTS} tries")


def _changes(metadata: dict[str, Any], manager: str, annotations: Collection[str]) -> list[dict[str, Any]]:
    """A JSON patch that makes an object's metadata know nothing of a manager; empty if it does not."""
    fields = metadata.get("managedFields", [])
    kept = [entry for entry in fields if entry["manager"] != manager]
    gone = [name for name in annotations if name in metadata.get("annotations", {})]
    if kept == fields and not gone:
        return []
    changes = [{"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}]
    changes += [{"op": "remove", "path": f"/metadata/annotations/{name.replace('/', '~1')}"} for name in gone]
    return [*changes, {"op": "replace", "path": "/metadata/managedFields", "value": kept}]
