"""Talking to a cluster through kubectl: the one place that knows which kubectl and which kubeconfig."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci.console import Failure, run
from ci.paths import state_dir

PLATFORM = "mlops"
JOBS = "mlops-jobs"
RELEASE = "mlops"  # Helm's
PART_OF = "app.kubernetes.io/part-of=house-platform"
UNREACHED = re.compile(  # of kubectl and helm: not that a server of the cluster is away, but the cluster
    r"^.*(was refused - did you specify|Unable to connect to the server|cluster unreachable"
    r"|failed to download openapi|error validating data: Get ).*$",
    re.MULTILINE,
)


def kubectl() -> str:
    """Path of kubectl: the one built with the one-node cluster, or the one on PATH.

    Raises:
        Failure: there is none.
    """
    own = state_dir() / "bin" / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if not found:
        raise Failure("kubectl is not installed: install it, or let `make cluster` build it with the one-node cluster")
    return found


def kubeconfig() -> Path | None:
    """The one-node cluster's kubeconfig where there is one and KUBECONFIG names no other."""
    if "KUBECONFIG" in os.environ or os.environ.get("CLUSTER") == "current":
        return None
    own = state_dir() / "kubeconfig.yaml"
    return own if own.exists() else None


def environment() -> dict[str, str]:
    """This process's environment with KUBECONFIG set for kubectl and helm."""
    own = kubeconfig()
    return {**os.environ, **({"KUBECONFIG": str(own)} if own else {})}


def on_cluster(program: str, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
    """Run kubectl or helm against the present cluster and return what it printed.

    Raises:
        Failure: it failed (unless `check` is false); where no cluster answers, the text says how to get one.
    """
    try:
        return run([program, *words], stdin=stdin, env=environment(), check=check, timeout=timeout).stdout
    except Failure as failed:
        if not (why := UNREACHED.search(str(failed))):
            raise
        raise Failure(
            "no cluster answers: `make cluster` brings one up (`make up`: the platform, too); "
            f"for another one, `export KUBECONFIG=... CLUSTER=current`\n{why[0].strip()}"
        ) from failed


def kube(*words: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
    """Run kubectl and return what it printed.

    Raises:
        Failure: kubectl failed (unless `check` is false).
    """
    return on_cluster(kubectl(), *words, stdin=stdin, check=check, timeout=timeout)


def get(*words: str) -> dict[str, Any]:
    """`kubectl get ... -o json`, parsed."""
    found: dict[str, Any] = json.loads(kube("get", *words, "-o", "json"))
    return found


def secret(namespace: str, name: str) -> dict[str, str]:
    """The decoded values of a Secret.

    Raises:
        Failure: there is none.
    """
    found = kube("-n", namespace, "get", "secret", name, "--ignore-not-found", "-o", "json")
    if not found:
        raise Failure(f"there is no Secret {name} in {namespace}: install the platform (`make install`)")
    return {key: base64.b64decode(value).decode() for key, value in json.loads(found)["data"].items()}


def api_endpoint() -> tuple[str, int]:
    """Address and port behind the `kubernetes` Service; egress policies must name it, as they act after DNAT."""
    slices = get("-n", "default", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")["items"]
    for item in slices:
        for endpoint in item["endpoints"]:
            return endpoint["addresses"][0], item["ports"][0]["port"]
    raise Failure("the Service `kubernetes` has no endpoint: is the cluster up?")


def trouble(pod: dict[str, Any]) -> str:
    """Why a pod is not Ready, in one line; empty if it is Ready or has done its work."""
    status = pod["status"]
    if status.get("phase") == "Succeeded":
        return ""
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting, ended = (container.get("state", {}).get(state) for state in ("waiting", "terminated"))
        if waiting and waiting["reason"] not in ("PodInitializing", "ContainerCreating"):
            return f"{container['name']}: {waiting['reason']} {waiting.get('message', '')}".strip()
        if not container.get("ready") and "running" in container.get("state", {}):
            return f"{container['name']} is running and not ready yet"
        if ended and ended["exitCode"]:
            return f"{container['name']} ended with code {ended['exitCode']} ({ended.get('reason', 'no reason given')})"
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}"
    return str(conditions.get("PodScheduled", {}).get("message") or status.get("phase", "unknown"))


@contextmanager
def forward(namespace: str, target: str, port: int) -> Iterator[str]:
    """Forward a free local port to `target` (as `service/fastapi`) and yield the base URL.

    Raises:
        Failure: the tunnel did not open within 20 s.
    """
    command = [kubectl(), "-n", namespace, "port-forward", "--address", "127.0.0.1", target, f":{port}"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        said = process.stdout.readline()
        local = re.search(r"127\.0\.0\.1:(\d+)", said)
        if not local:
            why = said.strip() or "kubectl said nothing"
            raise Failure(f"no tunnel to {target} in {namespace}: {why} (`make status` says what runs there)")
        _wait_open(int(local.group(1)))
        yield f"http://127.0.0.1:{local.group(1)}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_open(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise Failure(f"the local port {port} did not open")
