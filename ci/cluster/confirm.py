"""Protects a cluster that `make cluster` did not create: removing something from it takes the name of its context."""

from __future__ import annotations

import os

from ci.cluster.record import read_record
from ci.cluster.settings import kubeconfig_path
from ci.common.console import Failure
from ci.common.kube import environment, kube


def confirm_removal(what: str) -> None:
    """Return if `what` may be removed from the current cluster. Call it before the first change.

    The kind cluster of `make cluster` needs no confirmation. For any other cluster the variable CONFIRM must be the
    name of the current kubeconfig context.

    Raises:
        Failure: it is not. The text names the context.
    """
    if _is_own():
        return
    context = kube("config", "current-context", check=False).strip()
    if not context:
        raise Failure(f"{what} cannot be removed: there is no current kubeconfig context; set KUBECONFIG")
    if os.environ.get("CONFIRM") != context:
        raise Failure(
            f"nothing was removed, because `make cluster` did not create the cluster of the context {context}: "
            f"to remove {what} from it, repeat the command with CONFIRM={context}"
        )


def _is_own() -> bool:
    """Whether kubectl and helm reach the cluster that `up` created."""
    reached = environment().get("KUBECONFIG")
    return os.environ.get("CLUSTER") != "current" and reached == str(kubeconfig_path()) and read_record() is not None
