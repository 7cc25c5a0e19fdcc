"""Grants the only right of the platform outside its namespaces: Prometheus reads the kubelets of all nodes.

No chart creates this object. Otherwise Argo CD's project would have to allow ClusterRoleBindings, and a commit could
give itself every right in the cluster. Nodes belong to no namespace, so a Role cannot give this right. `make secrets`
grants it, and so do `make install`, `make gitops` and the installer of a bundle, which all call it.
"""

from __future__ import annotations

import json

from ci.common.console import Failure, say
from ci.common.kube import Object, kube

ACCOUNT = "prometheus"  # ServiceAccount of the chart monitoring
KINDS = ("ClusterRoleBinding", "ClusterRole")
RULES = [
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
]
API = "rbac.authorization.k8s.io"


def _name(namespace: str) -> str:
    """Name of the role and of its binding. Each platform of a cluster has its own."""
    return f"house-platform-prometheus-{namespace}"


def objects(namespace: str) -> list[Object]:
    """The ClusterRole of Prometheus in a namespace, and its binding."""
    labels = {
        "app.kubernetes.io/name": ACCOUNT,
        "app.kubernetes.io/part-of": "house-platform",
        "app.kubernetes.io/managed-by": "make-secrets",
    }
    head = {"apiVersion": f"{API}/v1", "metadata": {"name": _name(namespace), "labels": labels}}
    return [
        {**head, "kind": "ClusterRole", "rules": RULES},
        {
            **head,
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": _name(namespace)},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    ]


def grant(namespace: str) -> None:
    """Give Prometheus of a namespace its right. Idempotent. Without permission to do so, only warn."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(namespace)})
    try:
        kube("apply", "--server-side", "--force-conflicts", "--field-manager=make-secrets", "-f", "-", stdin=text)
    except Failure as refused:
        if "forbidden" not in str(refused).lower():
            raise
        say(
            f"WARNING: Prometheus in {namespace} may not read the kubelets, because you may not create the ClusterRole "
            f"{_name(namespace)}. There are no metrics of containers and volumes, and their alerts cannot fire. Let an "
            "administrator of the cluster run `make secrets`, which changes no existing Secret."
        )


def revoke(namespace: str) -> None:
    """Remove the right of Prometheus of a namespace."""
    for kind in KINDS:
        kube("delete", kind, _name(namespace), "--ignore-not-found")
