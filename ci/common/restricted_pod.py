"""The spec of a pod of one container that the Pod Security standard `restricted` admits."""

from __future__ import annotations

from typing import Any

from ci.common.kube import Object

NOBODY = 65534
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}


def spec(container: Object, user: int = NOBODY, **fields: Any) -> Object:
    """The pod's spec. The container runs once, without a token of the API server.

    Args:
        container: its name, image and command. `resources` are `SMALL` if it has none.
        user: id of the user that runs it.
        fields: further fields of the spec, which override those of this function. Example: `nodeName="house"`.
    """
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {"imagePullPolicy": "IfNotPresent", "resources": SMALL, **container, "securityContext": security}
        ],
        **fields,
    }
