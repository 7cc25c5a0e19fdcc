"""Checks the cluster that the platform is installed on: its nodes, networks and storage."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network

from ci.common.console import Failure
from ci.common.kube import Get
from ci.doctor.network import POD_CIDR, SERVICE_CIDR
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, warn

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


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


def evicts_on_full_disk(get: Get, raw: Callable[[str], str]) -> bool:
    """True if a kubelet removes images or pods when its disk is nearly full; also if its settings cannot be read."""
    node = get("nodes")["items"][0]["metadata"]["name"]
    try:
        settings = json.loads(raw(f"/api/v1/nodes/{node}/proxy/configz"))["kubeletconfig"]
    except Failure:
        return True
    limits = [settings.get("evictionHard", {}).get(name) for name in ("nodefs.available", "imagefs.available")]
    return settings.get("imageGCHighThresholdPercent", 0) < 100 or limits != ["0%", "0%"]


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
