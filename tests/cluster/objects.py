"""Objects that the cluster tests make, each in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ci.cluster import build
from ci.kube import kube


def apply(*objects: dict[str, Any]) -> None:
    """Create or change objects."""
    kube("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def thing(
    kind: str, namespace: str, name: str, body: dict[str, Any], version: str = "v1", **labels: str
) -> dict[str, Any]:
    """An object."""
    meta = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": meta, **body}


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy."""
    return thing("NetworkPolicy", namespace, name, {"spec": spec}, "networking.k8s.io/v1")


def probe(script: str, **more: Any) -> dict[str, Any]:
    """A container of the probe image that runs a shell script."""
    command = ["/bin/sh", "-c", script]
    return {"name": "probe", "image": build.image_name("probe"), "command": command, **more}


@contextmanager
def namespaces(labels: dict[str, dict[str, str]]) -> Iterator[None]:
    """Namespaces with labels, empty at the start and gone at the end."""

    def delete() -> None:
        kube("delete", "namespace", *labels, "--ignore-not-found", "--timeout=60s")

    delete()
    apply(*(thing("Namespace", "", name, {}, **own) for name, own in labels.items()))
    try:
        yield
    finally:
        delete()
