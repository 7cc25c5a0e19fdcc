"""Checks versions of Kubernetes, kubectl, helm and MLflow."""

from __future__ import annotations

from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, skip, warn

OLDEST_KUBERNETES = (1, 30)  # admission policies (v1), EndpointSlices and Pod Security of the charts need it
OLDEST_HELM = (3, 17)  # --take-ownership


def kubernetes(server: str, client: str) -> Result:
    """Check versions of Kubernetes and kubectl. Example: `v1.36.3`."""
    check = "kubernetes"
    have, tool = _version(server), _version(client)
    if have < OLDEST_KUBERNETES:
        return fail(check, f"{server} is older than {_dotted(OLDEST_KUBERNETES)}, "
                    "the oldest version that the charts support",
                    "upgrade the cluster, one minor version at a time")  # fmt: skip
    if abs(have[1] - tool[1]) > 1:
        return warn(check, f"the server is {server}, kubectl {client}: more than one minor version apart",
                    f"use kubectl {_dotted(have)}.x (K3s: `k3s kubectl`)")  # fmt: skip
    return ok(check, f"{server}, kubectl {client}")


def helm(version: str) -> Result:
    """Check the version of helm. Example: `v3.17.3`; "" if helm is not installed."""
    if not version:
        return fail("helm", "helm is not installed", "put helm on PATH, or use the one of the bundle (./bin/helm)")
    if _version(version) < OLDEST_HELM:
        return fail("helm", f"{version} is older than {_dotted(OLDEST_HELM)}", "use the one of the bundle (./bin/helm)")
    return ok("helm", version)


def mlflow(needs: Requirements, running: str) -> Result:
    """Check versions of MLflow's client and server. With different major versions, calls end in 404."""
    server, client = running or needs.mlflow.get("server", ""), needs.mlflow.get("pipeline", "")
    if not server or not client:
        return skip("mlflow", "no lock file has its versions")
    where = "the running server" if running else "the server's image"
    if _version(server)[0] != _version(client)[0]:
        return fail("mlflow", f"{where} is {server}, the pipeline's client {client}: its calls would end in 404",
                    "use one version for both: make lock, make images, make install")  # fmt: skip
    if server != client:
        return warn("mlflow", f"{where} is {server}, the pipeline's client {client}",
                    "use one version for both: make lock, make images, make install")  # fmt: skip
    return ok("mlflow", f"client and {where} {server}")


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.lstrip("v").partition(".")
    return int(major), int(rest.partition(".")[0])


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
