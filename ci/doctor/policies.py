"""Tests with pods that network policies are enforced: a connection that works must fail once a policy denies it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from ci.common import restricted_pod
from ci.common.kube import Get, Object, trouble
from ci.doctor.result import Result, fail, ok

PROBE = "house-doctor"
SERVE = "import http.server as h; h.HTTPServer(('', 8080), h.BaseHTTPRequestHandler).serve_forever()"
# Ends with 0 as soon as the connection has the wanted state; with 1 after 20 s.
CALL = """
import socket, sys, time
wanted, end = sys.argv[2] == "open", time.time() + 20
while time.time() < end:
    with socket.socket() as probe:
        probe.settimeout(2)
        if (probe.connect_ex((sys.argv[1], 8080)) == 0) == wanted:
            sys.exit(0)
    time.sleep(0.5)
sys.exit(1)
"""


@dataclass(frozen=True)
class Kube:
    """The functions of `ci.common.kube` that the probe needs: `kube` and `get`."""

    run: Callable[..., str]
    get: Get


def probe(kube: Kube, image: str, seconds: float = 60, sleep: Callable[[float], None] = time.sleep) -> Result:
    """Test with pods whether a NetworkPolicy denies a connection. Their namespace is removed afterwards.

    `image` needs python3. The first connection, without a policy, proves that the pods can reach each other.
    """
    check, none = "policies", "use a network plugin that enforces NetworkPolicy (K3s: start it without "
    none += "--disable-network-policy; Calico, Cilium), or accept that every pod reaches every server"
    kube.run("apply", "-f", "-", stdin=json.dumps(_namespace()))
    try:
        kube.run("apply", "-f", "-", stdin=json.dumps(_pod("server", image, [SERVE])))
        server = _await(kube, "server", ("Running", "Failed"), seconds, sleep)
        address = server.get("podIP", "")
        if server.get("phase") != "Running" or not address:
            return fail(check, f"the probe's server did not start: {server.get('why', '')}", "fix the cause first")
        if not _connects(kube, image, address, "open", seconds, sleep):
            return fail(
                check,
                f"two pods cannot reach each other ({address}:8080) although no policy denies it",
                "check for another firewall on the node (`nft list ruleset | grep 'policy drop'`), "
                "and allow forwarding",
            )
        kube.run("apply", "-f", "-", stdin=json.dumps(_deny()))
        if not _connects(kube, image, address, "shut", seconds, sleep):
            return fail(check, "a connection that a NetworkPolicy denies succeeds: policies are not enforced", none)
        return ok(check, "enforced: a connection that worked was denied by a policy")
    finally:
        kube.run("delete", "namespace", PROBE, "--wait=false", "--ignore-not-found")


def _connects(
    kube: Kube, image: str, address: str, wanted: str, seconds: float, sleep: Callable[[float], None]
) -> bool:
    kube.run("apply", "-f", "-", stdin=json.dumps(_pod(wanted, image, [CALL, address, wanted])))
    return bool(_await(kube, wanted, ("Succeeded", "Failed"), seconds, sleep).get("phase") == "Succeeded")


def _await(kube: Kube, name: str, phases: tuple[str, ...], seconds: float, sleep: Callable[[float], None]) -> Object:
    status: Object = {}
    for _ in range(int(seconds)):
        pod = kube.get("-n", PROBE, "pod", name)
        status = {**pod["status"], "why": trouble(pod)}
        if status.get("phase") in phases:
            break
        sleep(1)
    return status


def _namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROBE, "labels": labels}}


def _pod(name: str, image: str, python: list[str]) -> Object:
    container = {"name": "main", "image": image, "command": ["python3", "-c", *python]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": PROBE, "labels": {"probe": name}},
        "spec": restricted_pod.spec(container),
    }


def _deny() -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": PROBE},
        "spec": {"podSelector": {"matchLabels": {"probe": "server"}}, "policyTypes": ["Ingress"]},
    }
