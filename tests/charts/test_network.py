"""A connection passes only if both sides allow it: the client's egress and access label, and the server's ingress."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ci.common.paths import CHECKOUT
from tests.charts.policies import NAMESPACE, admits, matches, policies
from tests.kit.rendering import (
    COMPONENTS,
    KUBE_API,
    Object,
    Workload,
    alone,
    find,
    name,
    objects,
    parse,
    pod_template,
    workloads,
)

BOTH = ["Ingress", "Egress"]
# Policies whose egress may reach every address, each with its reason.
EVERYWHERE: dict[str, str] = {}
DNS = {
    "to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}  # fmt: skip
# Servers that are optional. Egress to a server that is not installed has no effect.
OPTIONAL = {"grafana", "kube-state-metrics", "datasource"}


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


def isolates(policy: Object, labels: dict[str, str]) -> bool:
    """True if a policy selects pods by their labels, and closes both directions."""
    selector = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(selector) and selector.items() <= labels.items() and policy["spec"]["policyTypes"] == BOTH


def everywhere(peer: dict[str, Any]) -> bool:
    """True if a peer is every address, or every pod of the cluster."""
    if block := peer.get("ipBlock", {}).get("cidr", ""):
        return bool(block.endswith("/0"))
    return not any(peer.get(selector) for selector in ("podSelector", "namespaceSelector"))


def test_pod_is_isolated_by_a_policy_of_its_own(workload: Workload) -> None:
    """It does not depend on the policy of its namespace, which another chart owns."""
    assert any(isolates(policy, workload.labels) for policy in policies(workload)), (
        f"{workload.name}: no NetworkPolicy selects its pods by label with policyTypes {BOTH}"
    )


@pytest.mark.parametrize("chart", COMPONENTS)
def test_chart_alone_isolates_its_pods(chart: str) -> None:
    items = parse(alone(chart, *KUBE_API))
    own = [item for item in items if item["kind"] == "NetworkPolicy"]
    for item in (item for item in items if pod_template(item)):
        workload = Workload("", item)
        same = [policy for policy in own if policy["metadata"]["namespace"] == workload.namespace]
        assert any(isolates(policy, workload.labels) for policy in same), f"{workload.name}: its chart isolates no pod"


@pytest.mark.parametrize("namespace", ["mlops", "mlops-jobs"])
def test_namespace_denies_what_no_other_policy_allows(variant: str, namespace: str) -> None:
    """Also for pods that belong to no chart. Policies add up, so it takes no connection away from the other pods."""
    deny = find(objects(variant), "NetworkPolicy", "default-deny", namespace)["spec"]
    assert deny == {"podSelector": {}, "policyTypes": BOTH}


def test_chart_alone_denies_nothing_to_pods_of_others() -> None:
    """They may be in the same namespace."""
    deny = [
        item for item in parse(alone("postgres")) if item["kind"] == "NetworkPolicy" and not item["spec"]["podSelector"]
    ]
    assert deny == []


def test_names_are_resolved_by_the_dns_of_the_cluster_only(workload: Workload) -> None:
    """A DNS server elsewhere could carry data out of the cluster."""
    rules = [rule for policy in policies(workload) for rule in policy["spec"].get("egress", [])]
    resolving = [rule for rule in rules if 53 in [port["port"] for port in rule["ports"]]]
    assert resolving, f"{workload.name}: cannot resolve names"
    assert all(rule == DNS for rule in resolving), f"{workload.name}: {resolving}"


def test_no_egress_reaches_every_address(variant: str) -> None:
    reach = {
        policy["metadata"]["name"]
        for policy in objects(variant)
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"].get("egress", [])
        if not rule.get("to") or any(everywhere(peer) for peer in rule["to"])
    }
    assert reach == set(EVERYWHERE)


def test_every_rule_names_peers_and_ports(variant: str) -> None:
    for policy in (item for item in objects(variant) if item["kind"] == "NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule.get(peers), f"{name(policy)}: a rule of {direction} without peers admits everybody"
                assert rule.get("ports"), f"{name(policy)}: a rule of {direction} without ports admits all ports"
                for peer in rule[peers]:
                    assert not everywhere(peer), f"{name(policy)}: {direction}: {peer}"


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
    """With an Ingress, the policy admits the controller's namespace on that port; without it, it does not.

    The login does not know which pages have an Ingress, so it admits the controller on the port of each.
    """
    login = {8501, 9090, 5000, 8080}
    pages: dict[str, set[int]] = {"oauth2-proxy": set(login)}
    for ingress in (item for item in objects(variant) if item["kind"] == "Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            service = find(objects(variant), "Service", path["backend"]["service"]["name"])
            name = service["spec"]["selector"]["app.kubernetes.io/name"]
            pages.setdefault(name, set()).add(path["backend"]["service"]["port"]["number"])
    opened: dict[str, set[int]] = {}
    for policy in (item for item in objects(variant) if item["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if any(peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE) == "kube-system"
                   for peer in rule["from"]):  # fmt: skip
                opened.setdefault(policy["metadata"]["name"], set()).update(port["port"] for port in rule["ports"])
    assert opened == pages
    assert pages["oauth2-proxy"] == login


def test_only_pods_with_a_token_reach_the_kubernetes_api(variant: str) -> None:
    reach = {w.item["metadata"]["name"] for w in workloads(variant) for policy in policies(w)
             for rule in policy["spec"].get("egress", []) for peer in rule["to"]
             if peer.get("ipBlock", {}).get("cidr") == "10.46.0.1/32"
             and {"protocol": "TCP", "port": 6443} in rule["ports"]}  # fmt: skip
    assert reach == {w.item["metadata"]["name"] for w in workloads(variant) if w.pod["automountServiceAccountToken"]}


def test_client_that_belongs_to_no_chart_reaches_the_predictor_and_nothing_else(variant: str) -> None:
    """docs/how-to/call-the-api.md promises this to every pod in the namespace with the label access/fastapi."""
    selecting = {
        item["metadata"]["name"]: item["spec"]
        for item in objects(variant)
        if item["kind"] == "NetworkPolicy"
        and item["metadata"]["namespace"] == "mlops"
        and item["spec"]["podSelector"].get("matchLabels", {}).items() <= {"access/fastapi": "true"}.items()
    }
    assert set(selecting) == {"default-deny", "fastapi-clients"}
    dns, predictor = selecting["fastapi-clients"]["egress"]
    assert dns == DNS
    [server] = predictor["to"]
    assert server["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "fastapi"}}
    assert predictor["ports"] == [{"protocol": "TCP", "port": 8000}]


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
