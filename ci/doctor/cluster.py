"""Checks of the cluster before an install, and of the installed platform."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from ci.common.console import Failure
from ci.common.kube import JOBS, PLATFORM, Object, trouble
from ci.doctor.network import POD_CIDR, SERVICE_CIDR
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, skip, warn

OLDEST_KUBERNETES = (1, 30)  # admission policies (v1), EndpointSlices and Pod Security of the charts need it
OLDEST_HELM = (3, 17)  # --take-ownership
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
Get = Callable[..., Object]  # see ci.common.kube.get


def versions(server: str, client: str) -> Result:
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


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.lstrip("v").partition(".")
    return int(major), int(rest.partition(".")[0])


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def evicts_on_full_disk(get: Get, raw: Callable[[str], str]) -> bool:
    """True if a kubelet removes images or pods when its disk is nearly full; also if its settings cannot be read."""
    node = get("nodes")["items"][0]["metadata"]["name"]
    try:
        settings = json.loads(raw(f"/api/v1/nodes/{node}/proxy/configz"))["kubeletconfig"]
    except Failure:
        return True
    limits = [settings.get("evictionHard", {}).get(name) for name in ("nodefs.available", "imagefs.available")]
    return settings.get("imageGCHighThresholdPercent", 0) < 100 or limits != ["0%", "0%"]


def nodes(get: Get) -> Result:
    """Check that every node is Ready and has no pressure condition."""
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
    """Pod and service networks of the cluster, from the API; defaults if it does not show them."""
    specs = [node["spec"] for node in get("nodes")["items"]]
    pods = next((spec["podCIDR"] for spec in specs if spec.get("podCIDR")), POD_CIDR)
    try:
        services = get("servicecidrs")["items"][0]["spec"]["cidrs"][0]
    except (Failure, LookupError):  # before Kubernetes 1.33 the API shows only the first address; assume a /16
        address = get("-n", "default", "service", "kubernetes")["spec"].get("clusterIP", SERVICE_CIDR.partition("/")[0])
        services = str(ip_network(f"{address}/{16 if address.split('.')[2] == '0' else 24}", strict=False))
    return pods, services


def present_images(get: Get) -> set[str]:
    """Names of images in the status of the nodes. A kubelet reports only its 50 largest images."""
    items = get("nodes")["items"]
    return {name for node in items for image in node["status"].get("images", []) for name in image.get("names", [])}


def kind_nodes(get: Get) -> list[str]:
    """Names of the nodes that are containers of kind."""
    nodes = [node for node in get("nodes")["items"] if node["spec"].get("providerID", "").startswith("kind://docker/")]
    return [node["metadata"]["name"] for node in nodes]


def storage(needs: Requirements, get: Get) -> Result:
    """Check that every volume claim has a StorageClass."""
    items = get("storageclasses")["items"]
    names = {item["metadata"]["name"] for item in items}
    default = [
        i["metadata"]["name"] for i in items if i["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"
    ]
    if lost := sorted(set(needs.storage_classes) - {""} - names):
        return fail("storage", f"volumes ask for StorageClass {', '.join(lost)}, which the cluster does not have",
                    f"name one of {', '.join(sorted(names)) or 'none'} in values/{needs.env}.yaml")  # fmt: skip
    if "" in needs.storage_classes and not default:
        return fail(
            "storage",
            "no StorageClass is the default: volume claims would stay Pending",
            f"kubectl annotate storageclass {next(iter(sorted(names)), '<name>')} {DEFAULT_CLASS}=true"
            if names
            else "install a provisioner (K3s: start it without --disable=local-storage)",
        )
    if len(default) > 1:
        return warn("storage", f"{', '.join(default)} are all the default: Kubernetes uses the newest",
                    f"kubectl annotate storageclass {default[0]} {DEFAULT_CLASS}-")  # fmt: skip
    return ok("storage", f"default StorageClass {default[0]}" if default else ", ".join(needs.storage_classes))


def secrets(needs: Requirements, get: Get) -> list[Result]:
    """Check that every Secret that the platform's objects refer to exists. Values are not used."""
    existing = get("secrets", "-A")["items"]
    present = {f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in existing}
    results = []
    missing = sorted(set(needs.secrets) - present)
    if not missing:
        results.append(ok("secrets", f"all {len(needs.secrets)} exist"))
    elif len(missing) == len(needs.secrets):
        results.append(warn("secrets", "none exists yet", "make secrets (`make install` and ./install.sh do it)"))
    else:
        results.append(
            fail(
                "secrets",
                f"{', '.join(missing)} missing while others exist: "
                "they share passwords, so a single one cannot be created",
                "restore them from your backup; without one, delete the platform's Secrets and data, then make secrets",
            )
        )
    if foreign := sorted(set(needs.foreign_secrets) - present):
        space, _, name = foreign[0].partition("/")
        results.append(
            fail(
                "certificates",
                f"Ingresses name {', '.join(foreign)}, which `make secrets` does not create: "
                "pages would have a wrong certificate",
                f"kubectl -n {space} create secret tls {name} --cert=<file> --key=<file>",
            )
        )
    elif needs.foreign_secrets:
        results.append(ok("certificates", ", ".join(needs.foreign_secrets)))
    return results


def receivers(needs: Requirements, get: Get) -> Result:
    """Check that alerts reach somebody, and that the Secret has the keys of the receivers. Values are not used."""
    check, page = "receivers", "docs/how-to/receive-alerts.md"
    present = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}/{key}"
        for item in (get("secrets", "-A")["items"] if needs.receiver_keys else [])
        for key in item.get("data") or {}
    }
    if missing := sorted(set(needs.receiver_keys) - present):
        return fail(check, f"{', '.join(missing)} missing: Alertmanager does not start",
                    f"set the variable of each key and run make secrets, or turn the receiver off: {page}")  # fmt: skip
    if not needs.notifies:
        return warn(check, f"no receiver is enabled in {needs.env}: alerts only show on Alertmanager's page", page)
    return ok(check, "enabled")


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


def applications(get: Get) -> list[Result]:
    """Check every Application of Argo CD; no result if Helm delivers."""
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
    """Check every pod of the platform; one result for all healthy pods."""
    results, well = [], 0
    for namespace in (PLATFORM, JOBS):
        for pod in get("-n", namespace, "pods")["items"]:
            why, name = trouble(pod), pod["metadata"]["name"]
            well += not why
            fix = f"kubectl -n {namespace} describe pod {name}; kubectl -n {namespace} logs {name} --all-containers"
            if "ImagePull" in why or "ErrImage" in why:
                fix = "see the line of its image above"
            if why and namespace == JOBS:
                results.append(warn(f"pod {name}", why, fix))
            elif why:
                results.append(fail(f"pod {name}", why, fix))
    return results if results else [ok("pods", f"all {well} are Ready or completed")]


def alerts(active: Iterable[dict[str, Any]]) -> list[Result]:
    """One result per firing alert of Prometheus' `/api/v1/alerts`, but for those that always fire (severity `none`)."""
    results = []
    for one in active:
        labels, notes = one["labels"], one.get("annotations", {})
        if one["state"] != "firing" or labels.get("severity") == "none":
            continue
        level = fail if labels.get("severity") == "critical" else warn
        name = labels["alertname"]
        what = notes.get("summary") or notes.get("description") or "no summary"
        results.append(
            level(f"alert {name}", what, notes.get("runbook_url") or f"charts/monitoring/runbooks/{name}.md")
        )
    return results or [ok("alerts", "none is firing")]


# --- Test of network policies: a connection that works, a policy that denies it, the same connection again.
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
    """The functions of kubectl that a probe needs: see `kube` and `get` of ci.common.kube."""

    run: Callable[..., str]
    get: Get


def policies(kube: Kube, image: str, seconds: float = 60, sleep: Callable[[float], None] = time.sleep) -> Result:
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


def _deny() -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": PROBE},
        "spec": {"podSelector": {"matchLabels": {"probe": "server"}}, "policyTypes": ["Ingress"]},
    }
