"""Builders for the Kubernetes objects of the cluster tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ci.cluster.registryless import programs
from ci.common.kube import kube


def apply(*objects: dict[str, Any]) -> None:
    """Create or change objects."""
    kube("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def thing(
    kind: str, namespace: str, name: str, body: dict[str, Any], version: str = "v1", **labels: str
) -> dict[str, Any]:
    """A Kubernetes object."""
    meta = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": meta, **body}


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy."""
    return thing("NetworkPolicy", namespace, name, {"spec": spec}, "networking.k8s.io/v1")


def probe(script: str, **more: Any) -> dict[str, Any]:
    """A container of the probe image that runs a shell script."""
    command = ["/bin/sh", "-c", script]
    return {"name": "probe", "image": programs.probe_image(), "command": command, **more}


@contextmanager
def namespaces(labels: dict[str, dict[str, str]]) -> Iterator[None]:
    """Create empty namespaces with these labels; delete them when the block ends."""

    def delete() -> None:
        kube("delete", "namespace", *labels, "--ignore-not-found", "--timeout=60s")

    delete()
    apply(*(thing("Namespace", "", name, {}, **own) for name, own in labels.items()))
    try:
        yield
    finally:
        delete()
