"""The cluster before an install, and the platform on it after one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from ci.console import Failure
from ci.doctor.network import POD_CIDR, SERVICE_CIDR
from ci.doctor.result import Expected, Result, fail, ok, skip, warn
from ci.kube import JOBS, PLATFORM, trouble

OLDEST_KUBERNETES = (1, 30)  # policies of admission (v1), EndpointSlices and Pod Security as the charts use them
OLDEST_HELM = (3, 17)  # --take-ownership
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
Get = Callable[..., dict[str, Any]]  # as ci.kube.get


def versions(server: str, client: str) -> Result:
    """Kubernetes and kubectl, as `v1.36.3`."""
    check = "kubernetes"
    have, tool = _version(server), _version(client)
    if have < OLDEST_KUBERNETES:
        return fail(check, f"{server} is older than {_dotted(OLDEST_KUBERNETES)}, the oldest that the charts are for",
                    "upgrade the cluster, one minor version at a time")  # fmt: skip
    if abs(have[1] - tool[1]) > 1:
        return warn(check, f"the server is {server}, kubectl {client}: more than one minor version apart",
                    f"use kubectl {_dotted(have)}.x (K3s: `k3s kubectl`)")  # fmt: skip
    return ok(check, f"{server}, kubectl {client}")


def helm(version: str) -> Result:
    """Helm, as `v3.17.3`; "" if there is none."""
    if not version:
        return fail("helm", "helm is not installed", "put helm on PATH, or use the one of the bundle (./bin/helm)")
    if _version(version) < OLDEST_HELM:
        return fail("helm", f"{version} is older than {_dotted(OLDEST_HELM)}", "use the one of the bundle (./bin/helm)")
    return ok("helm", version)


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.lstrip("v").partition(".")
    return int(major), int(rest.partition(".")[0])


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def nodes(get: Get) -> Result:
    """Every node is Ready and under no pressure."""
    bad = []
    items = get("nodes")["items"]
    for node in items:
        for condition in node["status"].get("conditions", []):
            if condition["status"] != ("True" if condition["type"] == "Ready" else "False"):
                why = f"{condition['type']}={condition['status']} ({condition.get('message', '')})"
                bad.append(f"{node['metadata']['name']}: {why}")
    if bad:
        return fail("nodes", "; ".join(bad), "kubectl describe node, and the kubelet's log (journalctl -u k3s -n 100)")
    return ok("nodes", f"{len(items)} Ready")


def networks(get: Get) -> tuple[str, str]:
    """The cluster's pod and service networks, as far as it tells."""
    specs = [node["spec"] for node in get("nodes")["items"]]
    pods = next((spec["podCIDR"] for spec in specs if spec.get("podCIDR")), POD_CIDR)
    try:
        services = get("servicecidrs")["items"][0]["spec"]["cidrs"][0]
    except (Failure, LookupError):  # before Kubernetes 1.33 only the first address is told; ranges are seldom smaller
        address = get("-n", "default", "service", "kubernetes")["spec"].get("clusterIP", SERVICE_CIDR.partition("/")[0])
        services = str(ip_network(f"{address}/{16 if address.split('.')[2] == '0' else 24}", strict=False))
    return pods, services


def present_images(get: Get) -> set[str]:
    """Names of images as the nodes report them; a kubelet reports its 50 largest only."""
    items = get("nodes")["items"]
    return {name for node in items for image in node["status"].get("images", []) for name in image.get("names", [])}


def storage(expected: Expected, get: Get) -> Result:
    """A StorageClass for every volume claim."""
    items = get("storageclasses")["items"]
    names = {item["metadata"]["name"] for item in items}
    default = [
        i["metadata"]["name"] for i in items if i["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"
    ]
    if lost := sorted(set(expected.storage_classes) - {""} - names):
        return fail("storage", f"volumes ask for StorageClass {', '.join(lost)}, which the cluster does not have",
                    f"name one of {', '.join(sorted(names)) or 'none'} in values/{expected.env}.yaml")  # fmt: skip
    if "" in expected.storage_classes and not default:
        return fail(
            "storage",
            "no StorageClass is the default: volume claims would stay Pending",
            f"kubectl annotate storageclass {next(iter(sorted(names)), '<name>')} {DEFAULT_CLASS}=true"
            if names
            else "install a provisioner (K3s: start it without --disable=local-storage)",
        )
    if len(default) > 1:
        return warn("storage", f"{', '.join(default)} are all the default: the newest wins",
                    f"kubectl annotate storageclass {default[0]} {DEFAULT_CLASS}-")  # fmt: skip
    return ok("storage", f"default StorageClass {default[0]}" if default else ", ".join(expected.storage_classes))


def secrets(expected: Expected, get: Get) -> list[Result]:
    """Every Secret that the platform's objects name; their values are never read."""
    found = get("secrets", "-A")["items"]
    present = {f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in found}
    results = []
    missing = sorted(set(expected.secrets) - present)
    if not missing:
        results.append(ok("secrets", f"all {len(expected.secrets)} exist"))
    elif len(missing) == len(expected.secrets):
        results.append(warn("secrets", "none exists yet", "make secrets (`make install` and ./install.sh do it)"))
    else:
        results.append(
            fail(
                "secrets",
                f"{', '.join(missing)} missing while others exist: they share passwords, one alone cannot be made",
                "restore them from your backup; without one, delete the platform's Secrets and data, then make secrets",
            )
        )
    if foreign := sorted(set(expected.foreign_secrets) - present):
        space, _, name = foreign[0].partition("/")
        results.append(
            fail(
                "certificates",
                f"Ingresses name {', '.join(foreign)}, and nobody here makes it: pages would show a false certificate",
                f"kubectl -n {space} create secret tls {name} --cert=<file> --key=<file>",
            )
        )
    elif expected.foreign_secrets:
        results.append(ok("certificates", ", ".join(expected.foreign_secrets)))
    return results


def mlflow(expected: Expected, running: str) -> Result:
    """Client and server of MLflow; across a major version calls end in 404."""
    server, client = running or expected.mlflow.get("server", ""), expected.mlflow.get("pipeline", "")
    if not server or not client:
        return skip("mlflow", "no lock names its versions here")
    where = "the running server" if running else "the server's image"
    if _version(server)[0] != _version(client)[0]:
        return fail("mlflow", f"{where} is {server}, the pipeline's client {client}: its calls would end in 404",
                    "one version for both: make lock, make images, make install")  # fmt: skip
    if server != client:
        return warn("mlflow", f"{where} is {server}, the pipeline's client {client}",
                    "one version for both: make lock, make images, make install")  # fmt: skip
    return ok("mlflow", f"client and {where} {server}")


def applications(get: Get) -> list[Result]:
    """Every Application of Argo CD; nothing where Helm delivers."""
    try:
        items = get("applications.argoproj.io", "-A")["items"]
    except Failure:
        return []
    results = []
    for item in items:
        name, status = item["metadata"]["name"], item.get("status", {})
        sync, health = (status.get(key, {}).get("status", "Unknown") for key in ("sync", "health"))
        if (sync, health) == ("Synced", "Healthy"):
            results.append(ok(f"application {name}", "Synced, Healthy"))
            continue
        messages = [condition["message"] for condition in status.get("conditions", [])]
        messages += [status.get("operationState", {}).get("message", "")]
        results.append(
            fail(
                f"application {name}",
                f"{sync}, {health}: {next(filter(None, messages), 'no message')}",
                f"kubectl -n {item['metadata'].get('namespace', 'argocd')} describe application {name}",
            )
        )
    return results


def pods(get: Get) -> list[Result]:
    """Every pod of the platform; one line for all that are well."""
    results, well = [], 0
    for namespace in (PLATFORM, JOBS):
        for pod in get("-n", namespace, "pods")["items"]:
            why, name = trouble(pod), pod["metadata"]["name"]
            well += not why
            mend = f"kubectl -n {namespace} describe pod {name}; kubectl -n {namespace} logs {name} --all-containers"
            if "ImagePull" in why or "ErrImage" in why:
                mend = "see the line of its image above"
            if why and namespace == JOBS:
                results.append(warn(f"pod {name}", why, mend))
            elif why:
                results.append(fail(f"pod {name}", why, mend))
    return results if results else [ok("pods", f"all {well} are Ready or have done their work")]


def alerts(active: Iterable[dict[str, Any]]) -> list[Result]:
    """What Prometheus' `/api/v1/alerts` lists."""
    results = []
    for one in active:
        labels, notes = one["labels"], one.get("annotations", {})
        if one["state"] != "firing":
            continue
        level = fail if labels.get("severity") == "critical" else warn
        name = labels["alertname"]
        what = notes.get("summary") or notes.get("description") or "no summary"
        results.append(
            level(f"alert {name}", what, notes.get("runbook_url") or f"charts/monitoring/runbooks/{name}.md")
        )
    return results or [ok("alerts", "none is firing")]


# --- Are network policies enforced? A connection that works, a policy that denies it, the same connection again.
PROBE = "house-doctor"
SERVE = "import http.server as h; h.HTTPServer(('', 8080), h.BaseHTTPRequestHandler).serve_forever()"
# Ends at once when the connection is as wanted; with 1 when it is not after 20 s.
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
    """What a probe needs of kubectl: `run(words, stdin)` as ci.kube.kube, `get` as ci.kube.get."""

    run: Callable[..., str]
    get: Get


def policies(kube: Kube, image: str, seconds: float = 60, sleep: Callable[[float], None] = time.sleep) -> Result:
    """Whether a NetworkPolicy denies a connection, seen with pods in a namespace of their own, which is removed.

    `image` needs python3. The first connection, without a policy, proves that the second means something.
    """
    check, none = "policies", "use a network plugin that enforces NetworkPolicy (K3s: start it without "
    none += "--disable-network-policy; Calico, Cilium), or accept that every pod reaches every server"
    kube.run("apply", "-f", "-", stdin=json.dumps(_namespace()))
    try:
        kube.run("apply", "-f", "-", stdin=json.dumps(_pod("server", image, [SERVE])))
        server = _await(kube, "server", ("Running", "Failed"), seconds, sleep)
        address = server.get("podIP", "")
        if server.get("phase") != "Running" or not address:
            return fail(check, f"the probe's server did not start: {server.get('why', '')}", "mend that first")
        if not _connects(kube, image, address, "open", seconds, sleep):
            return fail(
                check,
                f"two pods cannot reach each other ({address}:8080) although no policy denies it",
                "look for another firewall on the node (`nft list ruleset | grep 'policy drop'`), and allow forwarding",
            )
        kube.run("apply", "-f", "-", stdin=json.dumps(_deny()))
        if not _connects(kube, image, address, "shut", seconds, sleep):
            return fail(check, "a connection that a NetworkPolicy denies goes through: nothing enforces policies", none)
        return ok(check, "enforced: a connection that worked was denied by a policy")
    finally:
        kube.run("delete", "namespace", PROBE, "--wait=false", "--ignore-not-found")


def _connects(
    kube: Kube, image: str, address: str, wanted: str, seconds: float, sleep: Callable[[float], None]
) -> bool:
    kube.run("apply", "-f", "-", stdin=json.dumps(_pod(wanted, image, [CALL, address, wanted])))
    return bool(_await(kube, wanted, ("Succeeded", "Failed"), seconds, sleep).get("phase") == "Succeeded")


def _await(
    kube: Kube, name: str, phases: tuple[str, ...], seconds: float, sleep: Callable[[float], None]
) -> dict[str, Any]:
    status: dict[str, Any] = {}
    for _ in range(int(seconds)):
        pod = kube.get("-n", PROBE, "pod", name)
        status = {**pod["status"], "why": trouble(pod)}
        if status.get("phase") in phases:
            break
        sleep(1)
    return status


def _namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROBE, "labels": labels}}


def _pod(name: str, image: str, python: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": PROBE, "labels": {"probe": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", *python],
                    "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def _deny() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": PROBE},
        "spec": {"podSelector": {"matchLabels": {"probe": "server"}}, "policyTypes": ["Ingress"]},
    }
