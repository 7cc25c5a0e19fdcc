"""Runs kubectl and helm on the current cluster. Outside ci/cluster, only this module chooses the programs and the
kubeconfig; ci/cluster installs kubectl for the cluster that it creates."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci.common.console import Failure, run
from ci.common.paths import state_dir, venv_bin

PLATFORM = "mlops"
JOBS = "mlops-jobs"
RELEASE = "mlops"  # Helm's
PART_OF = "app.kubernetes.io/part-of=house-platform"
UNREACHED = re.compile(  # messages of kubectl and helm when the API server itself does not answer
    r"^.*(was refused - did you specify|Unable to connect to the server|cluster unreachable"
    r"|failed to download openapi|error validating data: Get ).*$",
    re.MULTILINE,
)


Object = dict[str, Any]  # a Kubernetes object, or a part of one; its kind decides which fields it has
Get = Callable[..., Object]  # the type of `get`


class NoCluster(Failure):
    """The API server does not answer. The text says how to create a cluster or to choose another one."""


def kubectl() -> str:
    """Path of kubectl: the one that the kind cluster brought, else the one on PATH.

    Raises:
        Failure: there is none.
    """
    own = state_dir() / "bin" / "kubectl"
    program = str(own) if own.exists() else shutil.which("kubectl")
    if not program:
        raise Failure("kubectl is not installed: install it, or let `make cluster` create a cluster, which brings one")
    return program


def helm() -> str:
    """Path of helm: the one of the virtual environment, whose version is locked, or the one on PATH.

    Raises:
        Failure: there is none.
    """
    own = Path(venv_bin("helm"))
    program = str(own) if own.exists() else shutil.which("helm")
    if not program:
        raise Failure("helm is not installed: `make setup` installs it into .venv")
    return program


def kubeconfig() -> Path | None:
    """Path of the kind cluster's kubeconfig; None if there is none, or KUBECONFIG or CLUSTER=current is set."""
    if "KUBECONFIG" in os.environ or os.environ.get("CLUSTER") == "current":
        return None
    own = state_dir() / "kubeconfig.yaml"
    return own if own.exists() else None


def environment() -> dict[str, str]:
    """Environment of this process, with KUBECONFIG set for kubectl and helm."""
    own = kubeconfig()
    return {**os.environ, **({"KUBECONFIG": str(own)} if own else {})}


def on_cluster(program: str, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
    """Run kubectl or helm on the current cluster and return its output.

    Raises:
        NoCluster: no cluster answers.
        Failure: it failed for another reason (unless `check` is false).
    """
    try:
        return run([program, *words], stdin=stdin, env=environment(), check=check, timeout=timeout).stdout
    except Failure as failed:
        if not (why := UNREACHED.search(str(failed))):
            raise
        raise NoCluster(
            "no cluster answers: `make cluster` creates one (`make up` also installs the platform); "
            f"to use another one, `export KUBECONFIG=... CLUSTER=current`\n{why[0].strip()}"
        ) from failed


def kube(*words: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
    """Run kubectl and return its output.

    Raises:
        Failure: kubectl failed (unless `check` is false).
    """
    return on_cluster(kubectl(), *words, stdin=stdin, check=check, timeout=timeout)


def get(*words: str) -> Object:
    """`kubectl get ... -o json`, parsed."""
    objects: Object = json.loads(kube("get", *words, "-o", "json"))
    return objects


def as_list(items: Iterable[Object]) -> str:
    """Objects as one JSON document, for the input of kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def secret(namespace: str, name: str) -> dict[str, str]:
    """The decoded values of a Secret.

    Raises:
        Failure: there is none.
    """
    text = kube("-n", namespace, "get", "secret", name, "--ignore-not-found", "-o", "json")
    if not text:
        raise Failure(f"there is no Secret {name} in {namespace}: install the platform (`make install`)")
    return {key: base64.b64decode(value).decode() for key, value in json.loads(text)["data"].items()}


def api_endpoint() -> tuple[str, int]:
    """Address and port of the first API server."""
    addresses, port = api_endpoints()
    return addresses[0], port


def api_endpoints() -> tuple[list[str], int]:
    """Addresses of all API servers behind the Service `kubernetes`, and their port.

    Raises:
        Failure: there is none.
    """
    slices = get("-n", "default", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")["items"]
    endpoints = [(address, item["ports"][0]["port"]) for item in slices
             for endpoint in item["endpoints"] for address in endpoint["addresses"]]  # fmt: skip
    if not endpoints:
        raise Failure("the Service `kubernetes` has no endpoint: is the cluster up?")
    return sorted({address for address, _ in endpoints}), endpoints[0][1]


def node_addresses() -> list[str]:
    """Internal IPv4 addresses of all nodes. Prometheus scrapes the kubelets there."""
    return sorted(
        address["address"]
        for node in get("nodes")["items"]
        for address in node["status"].get("addresses", [])
        if address["type"] == "InternalIP" and ":" not in address["address"]
    )


def egress_values(nodes: bool = True) -> dict[str, str]:
    """Addresses for the charts' egress rules, as values for `--set`. Rules apply to addresses behind a Service.

    The list of nodes is left out if it equals the list of API servers (one node), or if `nodes` is false.
    """
    servers, port = api_endpoints()
    values = {"global.kubeApi.cidr": _networks(servers), "global.kubeApi.port": str(port)}
    addresses = node_addresses() if nodes else []
    return values | ({"global.nodes.cidr": _networks(addresses)} if addresses not in ([], servers) else {})


def _networks(addresses: list[str]) -> str:
    """One address as a network; several as a list of networks."""
    networks = [f"{address}/32" for address in addresses]
    return networks[0] if len(networks) == 1 else f"{{{','.join(networks)}}}"


def trouble(pod: Object) -> str:
    """Reason why a pod is not Ready, in one line; empty if it is Ready or succeeded."""
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
            return f"{container['name']} ended with code {ended['exitCode']} ({ended.get('reason', 'no reason')})"
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}"
    return str(conditions.get("PodScheduled", {}).get("message") or status.get("phase", "unknown"))


@contextmanager
def forward(namespace: str, target: str, port: int) -> Iterator[str]:
    """Forward a free local port to `target` (example: `service/fastapi`) and yield the base URL.

    Raises:
        Failure: the tunnel did not open within 20 s.
    """
    command = [kubectl(), "-n", namespace, "port-forward", "--address", "127.0.0.1", target, f":{port}"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - stdout is PIPE
        output = process.stdout.readline()
        local = re.search(r"127\.0\.0\.1:(\d+)", output)
        if not local:
            why = output.strip() or "kubectl printed nothing"
            raise Failure(f"no tunnel to {target} in {namespace}: {why} (`make status` lists what runs there)")
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
