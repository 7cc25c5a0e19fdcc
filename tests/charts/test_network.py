"""A connection passes only if both sides allow it: the client's egress and access label, and the server's ingress."""

from __future__ import annotations

from typing import Any

import yaml

from ci.common.paths import CHECKOUT
from tests.kit.rendering import Object, Workload, find, name, objects, workloads

NAMESPACE = "kubernetes.io/metadata.name"
# Servers that are optional. Egress to a server that is not installed has no effect.
OPTIONAL = {"grafana", "kube-state-metrics", "datasource"}


def policies(workload: Workload) -> list[Object]:
    """The NetworkPolicies that select a workload's pods."""
    return [
        item
        for item in objects(workload.variant)
        if item["kind"] == "NetworkPolicy"
        and item["metadata"]["namespace"] == workload.namespace
        and item["spec"]["podSelector"].get("matchLabels", {}).items() <= workload.labels.items()
    ]


def admits(server: Workload, client: Workload, port: int) -> bool:
    """True if the server's policies admit the client's pods on a port."""
    peers = [
        peer
        for policy in policies(server)
        for rule in policy["spec"].get("ingress", [])
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["from"]
    ]
    return any(matches(peer, client, server.namespace) for peer in peers)


def matches(peer: dict[str, Any], pods: Workload, own: str) -> bool:
    """True if a peer of a policy in the namespace `own` selects these pods."""
    space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE, own)
    return (
        "podSelector" in peer
        and space == pods.namespace
        and peer["podSelector"].get("matchLabels", {}).items() <= pods.labels.items()
    )


def calls(workload: Workload) -> list[tuple[Workload | str, int]]:
    """Servers and ports that a workload's policies let it call. A server that is not installed is its name."""
    targets: list[tuple[Workload | str, int]] = []
    for policy in policies(workload):
        for rule in policy["spec"].get("egress", []):
            for peer in (peer for peer in rule["to"] if "podSelector" in peer):
                wanted = peer["podSelector"]["matchLabels"]
                if "k8s-app" in wanted:
                    continue
                servers = [w for w in workloads(workload.variant) if matches(peer, w, workload.namespace)]
                for port in rule["ports"]:
                    targets += [(server, port["port"]) for server in servers or [wanted["app.kubernetes.io/name"]]]
    return targets


def test_pod_is_isolated_in_both_directions(workload: Workload) -> None:
    closed = {direction for policy in policies(workload) for direction in policy["spec"]["policyTypes"]}
    assert closed == {"Ingress", "Egress"}, f"{workload.name}: its NetworkPolicies cover only {sorted(closed)}"


def test_every_rule_names_peers_and_ports(variant: str) -> None:
    for policy in (item for item in objects(variant) if item["kind"] == "NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule.get(peers), f"{name(policy)}: a rule of {direction} without peers admits everybody"
                assert rule.get("ports"), f"{name(policy)}: a rule of {direction} without ports admits all ports"
                for peer in rule[peers]:
                    block = peer.get("ipBlock", {}).get("cidr", "")
                    assert not block.endswith("/0"), f"{name(policy)}: {direction} of {block}"


def test_server_admits_every_client_that_may_call_it(workload: Workload) -> None:
    for server, port in calls(workload):
        if isinstance(server, str):
            assert server in OPTIONAL, f"{workload.name}: egress to {server}, which is not installed"
        else:
            assert admits(server, workload, port), (
                f"{workload.name} may call {server.name}:{port}, which does not admit it"
            )


def test_client_with_an_access_label_has_egress(workload: Workload) -> None:
    """An access label on a pod without egress to that server is a mistake on one of the two sides."""
    reached = {label for server, port in calls(workload) for label in _admitting_labels(workload, server, port)}
    carried = {label for label in workload.labels if label.startswith("access/")}
    idle = {label for label in carried - reached if label.removeprefix("access/") not in OPTIONAL}
    assert not idle, f"{workload.name}: the pod has {sorted(idle)}, but no egress to these servers"


def _admitting_labels(client: Workload, server: Workload | str, port: int) -> set[str]:
    if isinstance(server, str):
        return set()
    return {
        label
        for policy in policies(server)
        for rule in policy["spec"].get("ingress", [])
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["from"]
        for label in peer.get("podSelector", {}).get("matchLabels", {})
        if label in client.labels
    }


def test_ingress_rule_opens_only_ports_of_the_pod(workload: Workload) -> None:
    ports = {port["containerPort"] for container in workload.containers for port in container.get("ports", [])}
    for policy in policies(workload):
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                assert port["port"] in ports, (
                    f"{name(policy)}: opens {port['port']}; {workload.name} has {sorted(ports)}"
                )


def test_ingress_controller_reaches_exactly_the_pages_with_an_ingress(variant: str) -> None:
    """With an Ingress, the policy admits the controller's namespace on that port; without it, it does not."""
    pages = {}
    for ingress in (item for item in objects(variant) if item["kind"] == "Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            service = find(objects(variant), "Service", path["backend"]["service"]["name"])
            pages[service["spec"]["selector"]["app.kubernetes.io/name"]] = path["backend"]["service"]["port"]["number"]
    opened = {}
    for policy in (item for item in objects(variant) if item["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if any(peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE) == "kube-system"
                   for peer in rule["from"]):  # fmt: skip
                opened[policy["metadata"]["name"]] = rule["ports"][0]["port"]
    assert opened == pages


def test_only_pods_with_a_token_reach_the_kubernetes_api(variant: str) -> None:
    reach = {w.item["metadata"]["name"] for w in workloads(variant) for policy in policies(w)
             for rule in policy["spec"].get("egress", []) for peer in rule["to"]
             if peer.get("ipBlock", {}).get("cidr") == "10.46.0.1/32"
             and {"protocol": "TCP", "port": 6443} in rule["ports"]}  # fmt: skip
    assert reach == {w.item["metadata"]["name"] for w in workloads(variant) if w.pod["automountServiceAccountToken"]}


def test_other_pods_beside_the_stages_are_isolated(variant: str) -> None:
    deny = find(objects(variant), "NetworkPolicy", "default-deny", "mlops-jobs")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_fetch_reaches_the_external_data_api(env: str) -> None:
    values = yaml.safe_load((CHECKOUT / "values" / f"{env}.yaml").read_text())
    wanted = values["global"].get("dataApi", {}).get("cidr")
    blocks = {(policy["metadata"]["name"], peer["ipBlock"]["cidr"])
              for policy in objects(env) if policy["kind"] == "NetworkPolicy"
              and policy["metadata"]["namespace"] == "mlops-jobs"
              for rule in policy["spec"].get("egress", []) for peer in rule["to"] if "ipBlock" in peer}  # fmt: skip
    assert blocks == ({("pipeline-data-api", wanted)} if wanted else set())


def test_prometheus_may_reach_its_targets(variant: str) -> None:
    config = yaml.safe_load(find(objects(variant), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    [prometheus] = [w for w in workloads(variant) if w.item["metadata"]["name"] == "prometheus"]
    reached = {(server.labels["app.kubernetes.io/name"], port)
               for server, port in calls(prometheus) if isinstance(server, Workload)}  # fmt: skip
    for job in config["scrape_configs"]:
        targets = [target for group in job.get("static_configs", []) for target in group["targets"]]
        targets += [f"{host}:{group['port']}" for group in job.get("dns_sd_configs", []) for host in group["names"]]
        for host, port in (target.split(":") for target in targets):
            server = host.split(".")[0].removesuffix("-pods")
            if server != "localhost":
                assert (server, int(port)) in reached, f"job {job['job_name']}: no egress to {server}:{port}"


def test_every_target_is_installed(variant: str) -> None:
    """A target that is not installed causes an alert that never ends."""
    config = yaml.safe_load(find(objects(variant), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    installed = {item["metadata"]["name"] for item in objects(variant) if item["kind"] == "Service"}
    for job in config["scrape_configs"]:
        for target in (target for group in job.get("static_configs", []) for target in group["targets"]):
            assert target.split(":")[0] in installed | {"localhost"}, (
                f"job {job['job_name']}: {target} is not installed"
            )
