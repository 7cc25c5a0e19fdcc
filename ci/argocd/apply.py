"""Applies Argo CD's objects to a cluster, with Python's standard library only, for the installer of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from ci.common.console import phase, wait_for
from ci.common.kube import Object, as_list, get, kube

NAMESPACE = "argocd"
GIT_URL = f"http://git.{NAMESPACE}.svc:3080/platform.git"  # of the cluster's own Git server
DEFINITION = "CustomResourceDefinition"


def apply(objects: list[Object]) -> None:
    """Apply objects on the server side, because Argo CD's definitions are too large for the client side."""
    words = ["apply", "--server-side", "--force-conflicts", "--field-manager=make-gitops"]
    kube(*words, "-f", "-", stdin=as_list(objects))


def install(objects: list[Object]) -> None:
    """Apply namespace, definitions and the rest of Argo CD, in this order, and wait until its pods are Ready.

    Raises:
        Failure: a definition was not served within a minute, or a workload was not Ready within three.
    """
    definitions = [item for item in objects if item["kind"] == DEFINITION]
    with phase("install Argo CD", then="wait for it"):
        apply([item for item in objects if item["kind"] == "Namespace"])
        apply(definitions)
        for item in definitions:
            name = item["metadata"]["name"]
            wait_for(f"{DEFINITION} {name}", partial(_established, name), 60)
        apply([item for item in objects if item["kind"] not in (DEFINITION, "Namespace")])
    with phase("wait for Argo CD"):
        for item in objects:
            if item["kind"] in ("Deployment", "StatefulSet"):
                workload = f"{item['kind'].lower()}/{item['metadata']['name']}"
                kube("-n", NAMESPACE, "rollout", "status", workload, "--timeout=180s", timeout=200)


def _established(definition: str) -> bool:
    """Whether the API server serves a definition. `kubectl wait` fails if it has no status yet."""
    conditions = get("crd", definition).get("status", {}).get("conditions") or []
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


def with_parameters(delivery: list[Object], parameters: Mapping[str, str]) -> list[Object]:
    """AppProjects and root Application, its last object, with additional Helm values."""
    *projects, root = json.loads(json.dumps(delivery))
    root["spec"]["source"]["helm"]["parameters"] += [
        {"name": name, "value": value} for name, value in parameters.items()
    ]
    return [*projects, root]
