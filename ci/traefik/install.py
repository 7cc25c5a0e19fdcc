"""Installs Traefik with the settings that K3s gives it, as far as they change how it serves an Ingress."""

from __future__ import annotations

from pathlib import Path

from ci.common.console import phase
from ci.common.kube import Object, as_list, kube
from ci.common.manifest import parse
from ci.traefik import build

NAMESPACE = "kube-system"  # like in K3s
WORKLOAD = "deployment/traefik"
_REFERENCE = "docs/content/reference/dynamic-configuration"  # in Traefik's module
_MANIFESTS = Path(__file__).with_name("traefik.yaml")


def definitions() -> list[Object]:
    """Traefik's own definitions, such as the one of Middleware."""
    return parse(build.in_module(f"{_REFERENCE}/kubernetes-crd-definition-v1.yml").read_text())


def objects(image: str) -> list[Object]:
    """Traefik's own roles, and the workload."""
    rights = parse(build.in_module(f"{_REFERENCE}/kubernetes-crd-rbac.yml").read_text())
    for item in rights:
        for subject in item.get("subjects", []):
            subject["namespace"] = NAMESPACE
    return [*rights, *parse(_MANIFESTS.read_text().replace("@IMAGE@", image))]


def up() -> None:
    """Install Traefik, and wait until it is Ready.

    Raises:
        Failure: the image cannot be built, or Traefik is not Ready within two minutes.
    """
    image = build.load()
    with phase("install Traefik"):
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager=make-ingress", "-f", "-")
        kube(*words, stdin=as_list(definitions()))
        kube(*words, stdin=as_list(objects(image)))
        kube("-n", NAMESPACE, "rollout", "status", WORKLOAD, "--timeout=120s", timeout=140)


def remove() -> None:
    """Delete everything that `up` made."""
    kube("delete", "--ignore-not-found", "-f", "-", stdin=as_list([*objects("none"), *definitions()]))
