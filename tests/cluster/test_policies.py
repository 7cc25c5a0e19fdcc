"""NetworkPolicies are enforced on one node and across nodes: only traffic that a policy admits passes.

Five pods serve on the same ports. Pods in namespace A are closed in both directions except for the policies below.
Pods in B have no policy, so only A's side decides a flow between A and B. Each of the five pods runs on two nodes, and
the tests try each flow of the table on the same node and across nodes. A flow counts as open only if the client reads
bytes of an answer, because something between the cluster and the outside may accept connections to any address.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ci.cluster import settings
from ci.cluster.docker import choose as docker_engine
from ci.common.console import run, wait_for
from ci.common.kube import api_endpoint, get, kube
from tests.cluster.objects import apply, namespaces, policy, probe, thing

pytestmark = pytest.mark.e2e

A, B = "house-test-a", "house-test-b"
NAMESPACES = {A: {}, B: {"team": "b"}}
PODS: dict[str, tuple[str, dict[str, str]]] = {
    "server": (A, {"app": "server"}),
    "friend": (A, {"role": "friend"}),
    "stranger": (A, {}),
    "guest": (B, {"role": "guest"}),
    "other": (B, {}),
}
WEB = 8084  # the port with the name `web`
PORTS = (8080, 8081, 8082, 8083, WEB, 8085, 8090, 8092, 8093)
EFFECT = 2.0  # seconds after which a change must have taken effect
OPEN, CLOSED = "open", "closed"


def policies(addresses: dict[str, str]) -> list[dict[str, Any]]:
    """All policies of namespace A."""
    friend, guest = {"matchLabels": {"role": "friend"}}, {"matchLabels": {"role": "guest"}}
    server, team = {"matchLabels": {"app": "server"}}, {"matchLabels": {"team": "b"}}
    system = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    dns = {"matchLabels": {"k8s-app": "kube-dns"}}
    named_and_ranges = [{"port": 8080}, {"port": "web"}, {"port": 8090, "endPort": 8092}]

    def all_but(pod: str) -> list[dict[str, Any]]:
        excepted = [f"{addresses[f'{pod}-{number}']}/32" for number in (1, 2)]
        return [{"ipBlock": {"cidr": settings.POD_CIDR, "except": excepted}}]

    api_address, api_port = api_endpoint()

    return [
        policy(A, "default-deny", podSelector={}, policyTypes=["Ingress", "Egress"]),
        # so that only the server's own rules decide
        policy(A, "all-to-server", podSelector={}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": server}]}]),
        policy(
            A,
            "into-server",
            podSelector=server,
            ingress=[
                {"from": [{"podSelector": friend}], "ports": named_and_ranges},
                {"from": [{"namespaceSelector": team}], "ports": [{"port": 8081}]},
                {"from": [{"namespaceSelector": team, "podSelector": guest}], "ports": [{"port": 8082}]},
                {"from": all_but("guest"), "ports": [{"port": 8083}]},
            ],
        ),
        policy(
            A,
            "out-of-friend",
            podSelector=friend,
            policyTypes=["Egress"],
            egress=[
                {"to": [{"namespaceSelector": team}], "ports": named_and_ranges},
                {"to": all_but("other"), "ports": [{"port": 8083}]},
                {"to": [{"namespaceSelector": system, "podSelector": dns}], "ports": [{"port": 53, "protocol": "UDP"}]},
                {"to": [{"ipBlock": {"cidr": f"{api_address}/32"}}], "ports": [{"port": api_port}]},
            ],
        ),
    ]


# `to` is one of: a pod and its port; `service` and its port (the Service of the server, whose ports 80 and 85 lead to
# 8080 and 8085); `api` (the API server's own address); `kubernetes` (its Service); `kubelet` (of a node); `dns` (a
# lookup in the cluster's DNS).
FLOWS = [
    # from, to, expected
    # into the server: by a pod's label, number, name and range of ports
    ("friend", "server:8080", OPEN),
    ("friend", f"server:{WEB}", OPEN),
    ("friend", "server:8090", OPEN),
    ("friend", "server:8092", OPEN),
    ("friend", "server:8093", CLOSED),
    ("friend", "server:8085", CLOSED),
    ("stranger", "server:8080", CLOSED),
    ("stranger", f"server:{WEB}", CLOSED),
    ("stranger", "server:8090", CLOSED),
    ("guest", "server:8080", CLOSED),
    # into the server: by a namespace's label, and by both labels together
    ("guest", "server:8081", OPEN),
    ("other", "server:8081", OPEN),
    ("friend", "server:8081", CLOSED),
    ("guest", "server:8082", OPEN),
    ("other", "server:8082", CLOSED),
    ("friend", "server:8082", CLOSED),
    # into the server: by address, with an exception
    ("friend", "server:8083", OPEN),
    ("stranger", "server:8083", OPEN),
    ("other", "server:8083", OPEN),
    ("guest", "server:8083", CLOSED),
    # into the server through its Service: the policy sees the pod's port
    ("friend", "service:80", OPEN),
    ("friend", "service:85", CLOSED),
    ("stranger", "service:80", CLOSED),
    ("server", "service:80", OPEN),  # a pod always reaches itself
    # out of the friend: the same selectors in the other direction
    ("friend", "guest:8080", OPEN),
    ("friend", "other:8080", OPEN),
    ("friend", f"guest:{WEB}", OPEN),
    ("friend", "guest:8092", OPEN),
    ("friend", "guest:8093", CLOSED),
    ("friend", "guest:8085", CLOSED),
    ("friend", "guest:8083", OPEN),
    ("friend", "other:8083", CLOSED),
    ("friend", "dns", OPEN),
    ("friend", "api", OPEN),
    ("friend", "kubernetes", OPEN),
    ("friend", "kubelet", CLOSED),
    # no policy admits anything, so nothing passes
    ("stranger", "guest:8080", CLOSED),
    ("stranger", "dns", CLOSED),
    ("stranger", "api", CLOSED),
    ("stranger", "kubernetes", CLOSED),
    ("stranger", "friend:8080", CLOSED),
    ("server", "guest:8080", CLOSED),
    ("guest", "friend:8080", CLOSED),
    # no policy applies, so everything passes
    ("guest", "other:8085", OPEN),
    ("guest", "dns", OPEN),
    ("guest", "kubernetes", OPEN),
    ("guest", "kubelet", OPEN),
]
PLACES = {"same node": 1, "across nodes": 2}  # the number of the destination; the source is number 1


def pod(name: str, namespace: str, labels: dict[str, str], script: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "web", "containerPort": WEB}]
    box = {"containers": [probe(script, ports=ports)], "terminationGracePeriodSeconds": 0, **spec}
    return thing("Pod", namespace, name, {"spec": box}, **labels)


@pytest.fixture(scope="module")
def addresses(workers: list[str]) -> Iterator[dict[str, str]]:
    """Start the pods with A's policies; returns `name-number` to address, with `service-number` for the Services."""
    serve = " & ".join(f"probe serve :{port}" for port in PORTS)
    ports = [{"name": str(port), "port": port - 8000, "targetPort": port} for port in (8080, 8085)]
    placed = {f"{name}-{number}": (space, labels, workers[number - 1])
              for name, (space, labels) in PODS.items() for number in (1, 2)}  # fmt: skip
    labelled = {name: labels | {"number": name[-1]} for name, (_, labels, _) in placed.items()}
    with namespaces(NAMESPACES):
        apply(
            *(pod(name, space, labelled[name], serve, nodeName=node) for name, (space, _, node) in placed.items()),
            *(
                thing("Service", A, f"server-{number}",
                      {"spec": {"selector": {"app": "server", "number": str(number)}, "ports": ports}})
                for number in (1, 2)
            ),
        )  # fmt: skip
        for space in NAMESPACES:
            kube("-n", space, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=90s")
        ips = {name: get("-n", space, "pod", name)["status"]["podIP"] for name, (space, _, _) in placed.items()}
        ips |= {f"service-{number}": get("-n", A, "service", f"server-{number}")["spec"]["clusterIP"]
                for number in (1, 2)}  # fmt: skip
        everything = [f"{name}-2:{port}" for name in PODS for port in PORTS]
        wait_for("an answer of each pod", lambda: set(send("guest", everything, ips).values()) == {OPEN}, 20)
        apply(*policies(ips))
        time.sleep(EFFECT)
        yield ips


def words(to: str, addresses: dict[str, str], place: int = 1) -> str:
    """Arguments of the probe for a destination; `place` is the number of the pod if the name has none."""
    api_address, api_port = api_endpoint()
    outside = {
        "dns": f"lookup kubernetes.default.svc.{settings.DOMAIN}.",
        "api": f"get https://{api_address}:{api_port}/livez",
        "kubernetes": f"get https://{settings.API_SERVICE}/livez",
        "kubelet": f"get https://{api_address}:10250/healthz",
    }
    if to in outside:
        return outside[to]
    name, _, port = to.partition(":")
    return f"get http://{addresses.get(name) or addresses[f'{name}-{place}']}:{port}/"


def verdict(answer: str) -> str:
    """Classify the last line of the probe: open, closed, or the line itself if it is neither (a refused connection)."""
    if answer[:3].isdigit() or answer.startswith("["):
        return OPEN
    return CLOSED if "timeout" in answer or "deadline exceeded" in answer else answer


def send(source: str, destinations: list[str], addresses: dict[str, str], place: int = 1) -> dict[str, str]:
    """Try all flows from one source in parallel; returns destination to verdict."""
    tries = [f'echo "{to}|$(probe {words(to, addresses, place)} 2>&1 | tail -n 1)" &' for to in destinations]
    script = "\n".join([*tries, "wait"])
    output = kube("-n", PODS[source][0], "exec", f"{source}-1", "--", "/bin/sh", "-c", script)
    return {to: verdict(text) for to, _, text in (line.partition("|") for line in output.splitlines())}


@pytest.fixture(scope="module")
def verdicts(addresses: dict[str, str]) -> dict[tuple[str, str, str], str]:
    """Try every flow of the table on one node and across nodes, all in parallel."""
    sources = sorted({source for source, _, _ in FLOWS})
    runs = [(source, place) for source in sources for place in PLACES]

    def all_from(one: tuple[str, str]) -> dict[str, str]:
        source, place = one
        return send(source, [to for origin, to, _ in FLOWS if origin == source], addresses, PLACES[place])

    with ThreadPoolExecutor() as pool:
        return {
            (source, to, place): text
            for (source, place), answers in zip(runs, pool.map(all_from, runs), strict=True)
            for to, text in answers.items()
        }


CASES = [
    (source, to, expected, place)
    for source, to, expected in FLOWS
    for place in PLACES
    if (source, to, place) != ("server", "service:80", "across nodes")
]  # fmt: skip - across nodes, the Service leads to another pod


@pytest.mark.parametrize(("source", "to", "expected", "place"), CASES, ids=[f"{s}-to-{t}-{p}" for s, t, _, p in CASES])
def test_flow(source: str, to: str, expected: str, place: str, verdicts: dict[tuple[str, str, str], str]) -> None:
    assert verdicts[source, to, place] == expected, f"{source} -> {to} ({place}) should be {expected}"


def test_a_node_reaches_each_of_its_own_pods(addresses: dict[str, str], workers: list[str]) -> None:
    """The kubelet's probes need this."""
    for name, port in (("server-1", 8085), ("stranger-1", 8080)):
        command = ["docker", "exec", workers[0], "curl", "-s", "-m", "3", f"http://{addresses[name]}:{port}/"]
        answer = run(command, env=docker_engine().environment, check=False)
        assert name in answer.stdout, f"{name}: {answer.stdout} {answer.stderr}"


def test_creating_changing_and_deleting_a_policy_takes_effect_at_once(addresses: dict[str, str]) -> None:
    def only(*ports: int) -> dict[str, Any]:
        rules = [{"ports": [{"port": port} for port in ports]}] if ports else []
        return policy(B, "changing", podSelector={}, policyTypes=["Ingress"], ingress=rules)

    def now() -> dict[str, str]:
        time.sleep(EFFECT)
        return send("guest", ["other:8080", "other:8081"], addresses)

    assert now() == {"other:8080": OPEN, "other:8081": OPEN}
    apply(only(8080))
    assert now() == {"other:8080": OPEN, "other:8081": CLOSED}, "created"
    apply(only(8081))
    assert now() == {"other:8080": CLOSED, "other:8081": OPEN}, "changed"
    kube("-n", B, "delete", "networkpolicy", "changing")
    assert now() == {"other:8080": OPEN, "other:8081": OPEN}, "deleted"


def test_adding_and_removing_a_label_takes_effect_at_once(addresses: dict[str, str]) -> None:
    for change, expected in (("role=friend", OPEN), ("role-", CLOSED)):
        kube("-n", A, "label", "pod", "stranger-1", change)
        time.sleep(EFFECT)
        assert send("stranger", ["server:8080"], addresses, 2) == {"server:8080": expected}, change
    for change, expected in (("team-", CLOSED), ("team=b", OPEN)):
        kube("label", "namespace", B, change)
        time.sleep(EFFECT)
        assert send("guest", ["server:8081"], addresses, 2) == {"server:8081": expected}, change


def test_policies_hold_for_a_new_pod_from_its_first_packet(addresses: dict[str, str]) -> None:
    script = f"probe {words('guest-2:8080', addresses)} > /dev/termination-log 2>&1"
    labels = {f"start-{label}-{number}": {"role": label} for label in ("friend", "nobody") for number in range(3)}
    apply(*(pod(name, A, own, script, restartPolicy="Never") for name, own in labels.items()))

    def ends() -> dict[str, str]:
        states = {name: get("-n", A, "pod", name)["status"].get("containerStatuses", [{}])[0] for name in labels}
        done = {name: box.get("state", {}).get("terminated") for name, box in states.items()}
        return {name: verdict(end.get("message", "").strip()) for name, end in done.items() if end}

    wait_for("the end of the new pods", lambda: len(ends()) == len(labels), 60)
    assert ends() == {name: OPEN if own["role"] == "friend" else CLOSED for name, own in labels.items()}
