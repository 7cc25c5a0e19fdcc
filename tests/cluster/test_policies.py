"""NetworkPolicies hold: what one admits passes, everything else does not, from a pod's first packet on.

Five pods serve on the same ports. Those in namespace A are closed in both directions but for the policies below;
those in B have no policy, so a flow between A and B is decided by A's side alone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ci.cluster import settings
from ci.console import wait_for
from ci.kube import get, kube
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
        return [{"ipBlock": {"cidr": settings.POD_CIDR, "except": [f"{addresses[pod]}/32"]}}]

    return [
        policy(A, "default-deny", podSelector={}, policyTypes=["Ingress", "Egress"]),
        # so that the server's own rules decide
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
                {"to": [{"ipBlock": {"cidr": f"{settings.NODE_ADDRESS}/32"}}], "ports": [{"port": settings.API_PORT}]},
            ],
        ),
    ]


# Of `to`: a pod and its port; the Service of the server, whose ports 80 and 85 lead to 8080 and 8085; `api`, the API
# server's own address; `kubernetes`, its Service; `kubelet` on the node; `dns`, a lookup by the cluster's DNS.
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
    # ... by a namespace's label, and by both labels together
    ("guest", "server:8081", OPEN),
    ("other", "server:8081", OPEN),
    ("friend", "server:8081", CLOSED),
    ("guest", "server:8082", OPEN),
    ("other", "server:8082", CLOSED),
    ("friend", "server:8082", CLOSED),
    # ... by address, with an exception
    ("friend", "server:8083", OPEN),
    ("stranger", "server:8083", OPEN),
    ("other", "server:8083", OPEN),
    ("guest", "server:8083", CLOSED),
    # ... by its Service: the policy sees the pod's port
    ("friend", "service:80", OPEN),
    ("friend", "service:85", CLOSED),
    ("stranger", "service:80", CLOSED),
    ("server", "service:80", OPEN),  # a pod always reaches itself
    # out of the friend: the same selectors the other way
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
    # nothing admitted, nothing passes
    ("stranger", "guest:8080", CLOSED),
    ("stranger", "dns", CLOSED),
    ("stranger", "api", CLOSED),
    ("stranger", "kubernetes", CLOSED),
    ("stranger", "friend:8080", CLOSED),
    ("server", "guest:8080", CLOSED),
    ("guest", "friend:8080", CLOSED),
    # no policy, everything passes
    ("guest", "other:8085", OPEN),
    ("guest", "dns", OPEN),
    ("guest", "kubernetes", OPEN),
    ("guest", "kubelet", OPEN),
    # the node reaches every pod: probes need it
    ("node", "server:8085", OPEN),
    ("node", "stranger:8080", OPEN),
]


def pod(name: str, namespace: str, labels: dict[str, str], script: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "web", "containerPort": WEB}]
    box = {"containers": [probe(script, ports=ports)], "terminationGracePeriodSeconds": 0, **spec}
    return thing("Pod", namespace, name, {"spec": box}, **labels)


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """The pods, serving under A's policies: name to address, the server's Service as `service`."""
    serve = " & ".join(f"probe serve :{port}" for port in PORTS)
    ports = [{"name": str(port), "port": port - 8000, "targetPort": port} for port in (8080, 8085)]
    with namespaces(NAMESPACES):
        apply(
            *(pod(name, space, labels, serve) for name, (space, labels) in PODS.items()),
            thing("Service", A, "server", {"spec": {"selector": {"app": "server"}, "ports": ports}}),
        )
        for space in NAMESPACES:
            kube("-n", space, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
        found = {name: get("-n", space, "pod", name)["status"]["podIP"] for name, (space, _) in PODS.items()}
        found["service"] = get("-n", A, "service", "server")["spec"]["clusterIP"]
        wait_for("an answer of each pod", lambda: all(reached(found["guest"], port) for port in PORTS), 10)
        apply(*policies(found))
        time.sleep(EFFECT)
        yield found


def reached(address: str, port: int) -> bool:
    """True if this machine connects."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def words(to: str, addresses: dict[str, str]) -> str:
    """Arguments of the probe for a destination."""
    outside = {
        "dns": f"lookup kubernetes.default.svc.{settings.DOMAIN}.",
        "api": f"dial {settings.NODE_ADDRESS}:{settings.API_PORT}",
        "kubernetes": f"dial {settings.API_SERVICE}:443",
        "kubelet": f"dial {settings.NODE_ADDRESS}:{settings.PORTS['kubelet'][0]}",
    }
    name, _, port = to.partition(":")
    return outside.get(to) or f"dial {addresses[name]}:{port}"


def verdict(said: str) -> str:
    """What the probe's last line means; a refused connection, for one, is neither open nor closed."""
    if said.startswith(("connected", "[")):
        return OPEN
    return CLOSED if "timeout" in said else said


def send(source: str, destinations: list[str], addresses: dict[str, str]) -> dict[str, str]:
    """Try all flows from one source at once: destination to verdict."""
    if source == "node":
        pairs = {to: to.split(":") for to in destinations}
        return {to: OPEN if reached(addresses[name], int(port)) else CLOSED for to, (name, port) in pairs.items()}
    tries = [f'echo "{to}|$(probe {words(to, addresses)} 2>&1 | tail -n 1)" &' for to in destinations]
    said = kube("-n", PODS[source][0], "exec", source, "--", "/bin/sh", "-c", "\n".join([*tries, "wait"]))
    return {to: verdict(text) for to, _, text in (line.partition("|") for line in said.splitlines())}


@pytest.fixture(scope="module")
def verdicts(addresses: dict[str, str]) -> dict[tuple[str, str], str]:
    """Every flow of the table, all tried at once."""
    sources = sorted({source for source, _, _ in FLOWS})

    def all_from(source: str) -> dict[str, str]:
        return send(source, [to for origin, to, _ in FLOWS if origin == source], addresses)

    with ThreadPoolExecutor() as pool:
        return {
            (source, to): text
            for source, found in zip(sources, pool.map(all_from, sources), strict=True)
            for to, text in found.items()
        }


@pytest.mark.parametrize(("source", "to", "expected"), FLOWS, ids=[f"{source}-to-{to}" for source, to, _ in FLOWS])
def test_flow(source: str, to: str, expected: str, verdicts: dict[tuple[str, str], str]) -> None:
    assert verdicts[source, to] == expected, f"{source} -> {to} should be {expected}"


def test_a_policy_made_changed_and_removed_takes_effect_at_once(addresses: dict[str, str]) -> None:
    def only(*ports: int) -> dict[str, Any]:
        rules = [{"ports": [{"port": port} for port in ports]}] if ports else []
        return policy(B, "changing", podSelector={}, policyTypes=["Ingress"], ingress=rules)

    def now() -> dict[str, str]:
        time.sleep(EFFECT)
        return send("guest", ["other:8080", "other:8081"], addresses)

    assert now() == {"other:8080": OPEN, "other:8081": OPEN}
    apply(only(8080))
    assert now() == {"other:8080": OPEN, "other:8081": CLOSED}, "made"
    apply(only(8081))
    assert now() == {"other:8080": CLOSED, "other:8081": OPEN}, "changed"
    kube("-n", B, "delete", "networkpolicy", "changing")
    assert now() == {"other:8080": OPEN, "other:8081": OPEN}, "removed"


def test_a_label_put_on_and_taken_off_takes_effect_at_once(addresses: dict[str, str]) -> None:
    for change, expected in (("role=friend", OPEN), ("role-", CLOSED)):
        kube("-n", A, "label", "pod", "stranger", change)
        time.sleep(EFFECT)
        assert send("stranger", ["server:8080"], addresses) == {"server:8080": expected}, change
    for change, expected in (("team-", CLOSED), ("team=b", OPEN)):
        kube("label", "namespace", B, change)
        time.sleep(EFFECT)
        assert send("guest", ["server:8081"], addresses) == {"server:8081": expected}, change


def test_a_new_pod_is_closed_and_open_as_its_policies_say_from_its_first_packet(addresses: dict[str, str]) -> None:
    script = f"probe {words('guest:8080', addresses)} > /dev/termination-log 2>&1"
    labels = {f"start-{label}-{number}": {"role": label} for label in ("friend", "nobody") for number in range(3)}
    apply(*(pod(name, A, own, script, restartPolicy="Never") for name, own in labels.items()))

    def ends() -> dict[str, str]:
        states = {name: get("-n", A, "pod", name)["status"].get("containerStatuses", [{}])[0] for name in labels}
        done = {name: box.get("state", {}).get("terminated") for name, box in states.items()}
        return {name: verdict(end.get("message", "").strip()) for name, end in done.items() if end}

    wait_for("the end of the new pods", lambda: len(ends()) == len(labels), 60)
    assert ends() == {name: OPEN if own["role"] == "friend" else CLOSED for name, own in labels.items()}
