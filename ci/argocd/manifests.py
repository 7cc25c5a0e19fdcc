"""Manifests to apply: Argo CD's official manifests, patched; AppProjects and root Application of an environment.

Of the official manifests stay the controller, the repo-server, the server (API, webhook) and Redis: the platform has
no single sign-on (dex), no notifications, and no ApplicationSets (their controller goes; the API server of Argo CD
wants their CRD).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ci.argocd.apply import NAMESPACE, with_parameters
from ci.common.console import Failure
from ci.common.kube import Object
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT
from ci.deploy import secrets

SETTINGS = ("argocd-cm", "argocd-cmd-params-cm")
FOLDER = CHECKOUT / "argocd"
GIT_MANIFESTS = Path(__file__).with_name("git.yaml")

_DROPPED = ("argocd-dex-server", "argocd-notifications-", "argocd-applicationset-controller")
_WITHOUT_NAMESPACE = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace")
_WORKLOADS = ("Deployment", "StatefulSet")
# requests: measured use with this platform; limits: enough for a burst of renderings
_RESOURCES = {
    "argocd-application-controller": ("100m", "192Mi", "768Mi"),
    "argocd-repo-server": ("50m", "96Mi", "512Mi"),
    "argocd-server": ("20m", "96Mi", "256Mi"),
    "redis": ("10m", "16Mi", "128Mi"),
}


def read(name: str) -> Object:
    """The one object of a file in argocd/."""
    [item] = parse((FOLDER / name).read_text())
    return item


def install(official: list[Object], image: str = "") -> list[Object]:
    """The official objects as they are applied here; with `image`, every container runs that one."""
    settings = {name: read(f"{name}.yaml")["data"] for name in SETTINGS}
    checksum = hashlib.sha256(repr(sorted(settings["argocd-cmd-params-cm"].items())).encode()).hexdigest()[:16]
    kept = []
    for original in official:
        item = copy.deepcopy(original)
        kind, name = item["kind"], item["metadata"]["name"]
        if name.startswith(_DROPPED):
            continue
        if kind not in _WITHOUT_NAMESPACE:
            item["metadata"]["namespace"] = NAMESPACE
        if kind == "ConfigMap" and name in settings:
            item["data"] = item.get("data", {}) | settings[name]
        if kind in _WORKLOADS:
            template = item["spec"]["template"]
            # the programs read these settings at their start
            template["metadata"].setdefault("annotations", {})["checksum/params"] = checksum
            _patch_pod(template["spec"], image)
        kept.append(item)
    return [*kept, read("project-default.yaml")]


def _patch_pod(pod: Object, image: str) -> None:
    pod["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} | pod.get(
        "securityContext", {}
    )
    for container in pod.get("initContainers", []) + pod["containers"]:
        cpu, memory, limit = _RESOURCES.get(container["name"], ("10m", "32Mi", "128Mi"))
        container["resources"] = {
            "requests": {"cpu": cpu, "memory": memory},
            "limits": {"cpu": "2", "memory": limit},
        }
        container["imagePullPolicy"] = "IfNotPresent"
        if image:
            container["image"] = image
            if container["name"] == "redis":
                container["args"] = ["redis-server", *container["args"]]
            if container["name"] == "argocd-repo-server":
                # our image has no GnuPG, and the platform's AppProject asks for no signatures
                container["env"].append({"name": "ARGOCD_GPG_ENABLED", "value": "false"})


def everything(official: list[Object], image: str = "") -> list[Object]:
    """Namespace and Argo CD; with `image`, the cluster's own Git server, too."""
    own = git_server(image) if image else []
    return [secrets.namespace_object(NAMESPACE), *install(official, image), *own]


def git_server(image: str) -> list[Object]:
    """The cluster's own Git server."""
    return parse(GIT_MANIFESTS.read_text().replace("@IMAGE@", image))


def delivery(env: str, repository: str = "", parameters: Mapping[str, str] | None = None) -> list[Object]:
    """AppProjects and root Application of an environment, as committed.

    `repository` takes the place of the committed address wherever that stands. `parameters` are Helm values on top:
    what only the cluster can tell.
    """
    objects = [read(name) for name in ("project.yaml", "project-root.yaml", f"root-{env}.yaml")]
    root = objects[-1]
    address = root["spec"]["source"]["repoURL"]
    objects = with_parameters(objects, parameters or {})
    return _replaced(objects, address, repository) if repository else objects


def split_setting(setting: str) -> tuple[str, str]:
    """Name and value of `PATH=VALUE`.

    Raises:
        Failure: there is no `=`, or a comma, after which helm would read the next one.
    """
    path, equals, value = setting.partition("=")
    if not (path and equals) or "," in setting:
        raise Failure(f"--set {setting}: write it as PATH=VALUE. Example: global.dataApi.port=8099")
    return path, value


def _replaced(tree: Any, old: str, new: str) -> Any:
    """A tree with every string `old` replaced."""
    if isinstance(tree, dict):
        return {key: _replaced(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_replaced(value, old, new) for value in tree]
    return new if tree == old else tree
