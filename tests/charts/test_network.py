"""Nothing passes but what both sides say: the client by egress and its access label, the server by its door."""

from __future__ import annotations

from typing import Any

import yaml

from ci.paths import CHECKOUT
from tests.charts.rendering import Object, Workload, find, name, objects, workloads

NAMESPACE = "kubernetes.io/metadata.name"
# Servers that exist only where they are switched on; the door to a server that is not there leads nowhere.
OPTIONAL = {"grafana", "datasource"}


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
    """Whether the server's policies let the client's pods in at a port."""
    peers = [
        peer
        for policy in policies(server)
        for rule in policy["spec"].get("ingress", [])
        if port in [entry["port"] for entry in rule["ports"]]
        for peer in rule["from"]
    ]
    return any(matches(peer, client, server.namespace) for peer in peers)


def matches(peer: dict[str, Any], pods: Workload, own: str) -> bool:
    """Whether a peer of a policy in the namespace `own` means these pods."""
    space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE, own)
    return (
        "podSelector" in peer
        and space == pods.namespace
        and peer["podSelector"].get("matchLabels", {}).items() <= pods.labels.items()
    )


def calls(workload: Workload) -> list[tuple[Workload | str, int]]:
    """Where a workload's policies let it go: workloads, or names of those that are not there, and ports."""
    found: list[tuple[Workload | str, int]] = []
    for policy in policies(workload):
        for rule in policy["spec"].get("egress", []):
            for peer in (peer for peer in rule["to"] if "podSelector" in peer):
                wanted = peer["podSelector"]["matchLabels"]
                if "k8s-app" in wanted:
                    continue
                servers = [w for w in workloads(workload.variant) if matches(peer, w, workload.namespace)]
                for port in rule["ports"]:
                    found += [(server, port["port"]) for server in servers or [wanted["app.kubernetes.io/name"]]]
    return found


def test_pod_is_isolated_in_both_directions(workload: Workload) -> None:
    closed = {direction for policy in policies(workload) for direction in policy["spec"]["policyTypes"]}
    assert closed == {"Ingress", "Egress"}, f"{workload.name}: its NetworkPolicies close {sorted(closed)} only"


def test_no_rule_is_open_to_everybody(variant: str) -> None:
    for policy in (item for item in objects(variant) if item["kind"] == "NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule.get(peers), f"{name(policy)}: a rule of {direction} names nobody, which means everybody"
                assert rule.get("ports"), f"{name(policy)}: a rule of {direction} names no port, which means all"
                for peer in rule[peers]:
                    block = peer.get("ipBlock", {}).get("cidr", "")
                    assert not block.endswith("/0"), f"{name(policy)}: {direction} of {block}"


def test_server_admits_whom_the_client_may_call(workload: Workload) -> None:
    for server, port in calls(workload):
        if isinstance(server, str):
            assert server in OPTIONAL, f"{workload.name}: egress to {server}, which is not installed"
        else:
            assert admits(server, workload, port), f"{workload.name} may call {server.name}:{port}, which refuses it"


def test_client_with_an_access_label_may_leave(workload: Workload) -> None:
    """A label that opens a server's door, on a pod that may not go there, is a mistake on one of the two sides."""
    reached = {label for server, port in calls(workload) for label in _doors(workload, server, port)}
    carried = {label for label in workload.labels if label.startswith("access/")}
    idle = {label for label in carried - reached if label.removeprefix("access/") not in OPTIONAL}
    assert not idle, f"{workload.name}: {sorted(idle)} on the pod, but no egress there"


def _doors(client: Workload, server: Workload | str, port: int) -> set[str]:
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


def test_door_is_a_port_that_the_pod_has(workload: Workload) -> None:
    ports = {port["containerPort"] for container in workload.containers for port in container.get("ports", [])}
    for policy in policies(workload):
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                assert port["port"] in ports, (
                    f"{name(policy)}: opens {port['port']}; {workload.name} has {sorted(ports)}"
                )


def test_page_is_reached_from_the_ingress_controller_alone(variant: str) -> None:
    """Where an Ingress is on, its controller's namespace may come in at that port; where it is off, it may not."""
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


def test_only_those_that_call_the_clusters_api_may_reach_it(variant: str) -> None:
    reach = {w.item["metadata"]["name"] for w in workloads(variant) for policy in policies(w)
             for rule in policy["spec"].get("egress", []) for peer in rule["to"]
             if peer.get("ipBlock", {}).get("cidr") == "10.46.0.1/32"
             and {"protocol": "TCP", "port": 6443} in rule["ports"]}  # fmt: skip
    assert reach == {"airflow-scheduler", "prometheus"}


def test_whatever_runs_beside_the_stages_is_closed_in(variant: str) -> None:
    deny = find(objects(variant), "NetworkPolicy", "default-deny", "mlops-jobs")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_external_data_api_is_reached_by_fetch_alone_where_it_is_set(env: str) -> None:
    values = yaml.safe_load((CHECKOUT / "values" / f"{env}.yaml").read_text())
    wanted = values["global"].get("dataApi", {}).get("cidr")
    blocks = {(policy["metadata"]["name"], peer["ipBlock"]["cidr"])
              for policy in objects(env) if policy["kind"] == "NetworkPolicy"
              and policy["metadata"]["namespace"] == "mlops-jobs"
              for rule in policy["spec"].get("egress", []) for peer in rule["to"] if "ipBlock" in peer}  # fmt: skip
    assert blocks == ({("pipeline-data-api", wanted)} if wanted else set())


def test_prometheus_may_reach_what_it_scrapes(variant: str) -> None:
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
                assert (server, int(port)) in reached, f"job {job['job_name']}: no way to {server}:{port}"


def test_every_server_is_scraped_at_most_where_it_is_installed(variant: str) -> None:
    """A target that is not installed would be an alert for ever."""
    config = yaml.safe_load(find(objects(variant), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    installed = {item["metadata"]["name"] for item in objects(variant) if item["kind"] == "Service"}
    for job in config["scrape_configs"]:
        for target in (target for group in job.get("static_configs", []) for target in group["targets"]):
            assert target.split(":")[0] in installed | {"localhost"}, (
                f"job {job['job_name']}: {target} is not installed"
            )
