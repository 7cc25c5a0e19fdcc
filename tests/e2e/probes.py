"""Pods that try to connect to the platform's Services, with the labels that policies select.

The real containers have no common program that connects. No controller adopts the pods. They are never Ready, so
Services do not lead to them. The exception is the Service `fastapi-pods`, which also lists pods that are not Ready: for
some seconds, predictors and Prometheus find one more pod, which does not answer.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from ci.cluster import docker
from ci.cluster.choice import choose
from ci.cluster.containers import machine_address
from ci.common import restricted_pod
from ci.common.console import wait_for
from ci.common.kube import JOBS, PLATFORM, Object, api_endpoint, as_list, get, kube
from tests.kit.reachability import API_SERVER, DNS, FETCH, FOREIGN, OUTSIDE, REACHES

NAME = "app.kubernetes.io/name"
MARK = "house-platform/probe"
OPEN_SPACE = "house-reachability"  # has no policy: its pod proves that the addresses outside answer
SECONDS = 20  # a plugin may take some seconds until the policies of a new pod have an effect
# Tries every target until the result is the wanted one, and writes the targets that it reaches.
PROBE = f"""
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor

targets, wanted = json.loads(sys.argv[1]), sorted(json.loads(sys.argv[2]))

def connects(name):
    try:
        socket.create_connection(targets[name], timeout=2).close()
    except OSError:
        return False
    return True

end = time.monotonic() + {SECONDS}
with ThreadPoolExecutor(len(targets)) as pool:
    while True:
        reached = sorted(name for name, open in zip(targets, pool.map(connects, targets)) if open)
        if reached == wanted or time.monotonic() > end:
            break
        time.sleep(1)
with open("/dev/termination-log", "w") as file:
    json.dump(reached, file)
"""
Targets = dict[str, tuple[str, int]]  # by name in the table: address and port


def services() -> Targets:
    """The ports of every Service of the platform. A Service without an address of its own leads to its first pod."""
    targets: Targets = {}
    for service in get("-n", PLATFORM, "services", "-l", "app.kubernetes.io/part-of=house-platform")["items"]:
        name = service["metadata"]["name"]
        slices = get("-n", PLATFORM, "endpointslices", "-l", f"kubernetes.io/service-name={name}")["items"]
        ready = [endpoint["addresses"][0] for one in slices for endpoint in one["endpoints"] or []
                 if endpoint["conditions"].get("serving")]  # fmt: skip
        assert ready, f"Service {name} has no Ready pod: wait for the platform, or `make run` for a first champion"
        address = service["spec"]["clusterIP"]
        for port in service["spec"]["ports"]:
            targets[f"{name}:{port['port']}"] = (ready[0] if address == "None" else address, port["port"])
    assert targets, "no Service of the platform: `make install`"
    return targets


def dns() -> tuple[str, int]:
    """Address and port of the cluster's DNS."""
    return get("-n", "kube-system", "service", "kube-dns")["spec"]["clusterIP"], 53


@contextmanager
def outside() -> Iterator[Targets]:
    """Addresses outside of the cluster that answer: the API server, and on kind a port of this machine."""
    targets: Targets = {API_SERVER: api_endpoint(), DNS: dns()}
    if choose().name != "kind":
        yield targets
        return
    with socket.create_server((machine_address(docker.choose()), 0)) as server:
        yield targets | {OUTSIDE: server.getsockname()[:2]}


def clients() -> dict[str, tuple[str, dict[str, str]]]:
    """Namespace and labels of a pod of each installed component, and of the clients that no chart installs."""
    pods: dict[str, tuple[str, dict[str, str]]] = {}
    for space, kinds in ((PLATFORM, "deployments,statefulsets,cronjobs,jobs"), (JOBS, "podtemplates")):
        for item in get("-n", space, kinds, "-l", "app.kubernetes.io/part-of=house-platform")["items"]:
            spec = item if item["kind"] == "PodTemplate" else item["spec"]
            labels = spec.get("jobTemplate", {}).get("spec", spec)["template"]["metadata"]["labels"]
            # without the labels of controllers, which would adopt the pod
            own = {key: text for key, text in labels.items() if key == NAME or key.startswith("access/")}
            pods[own[NAME]] = (space, own)
    pods["fetch"] = (JOBS, pods["pipeline"][1] | FETCH)
    assert set(pods) <= set(REACHES), f"not in the table: {sorted(set(pods) - set(REACHES))}"
    spaces = {"platform": PLATFORM, "jobs": JOBS}
    return pods | {name: (spaces[space], labels) for name, (space, labels) in FOREIGN.items()}


@cache
def predictor() -> Object:
    """The spec of the predictor's pods, whose image has Python."""
    template: Object = get("-n", PLATFORM, "deployment", "fastapi")["spec"]["template"]["spec"]
    return template


def pod(client: str, space: str, labels: dict[str, str], targets: Targets, wanted: set[str], node: str = "") -> Object:
    """A pod that tries every target once it has started. It runs on `node`, or anywhere."""
    template = predictor()
    container = {
        "name": "probe",
        "image": template["containers"][0]["image"],
        "command": ["python3", "-c", PROBE, json.dumps(targets), json.dumps(sorted(wanted))],
        "readinessProbe": {"tcpSocket": {"port": 1}},
    }
    secrets = template.get("imagePullSecrets", [])
    spec = restricted_pod.spec(container, user=10001, imagePullSecrets=secrets, activeDeadlineSeconds=120)
    spec["restartPolicy"] = "OnFailure"  # a busy node sometimes fails to start a container, and tries it again
    if node:
        spec["nodeName"] = node
    name = f"reachability-{client.replace(' ', '-')}"
    metadata = {"name": name, "namespace": space, "labels": {**labels, MARK: "reachability"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"annotations": {MARK: client}}, "spec": spec}


def delete() -> None:
    """Delete all pods of this test."""
    for space in (PLATFORM, JOBS, "kube-system"):
        kube("-n", space, "delete", "pods", "-l", MARK, "--grace-period=0", "--force", "--ignore-not-found")
    kube("delete", "namespace", OPEN_SPACE, "--ignore-not-found", "--timeout=60s")


def results() -> dict[str, set[str]]:
    """The targets that each pod reached, of the pods that have ended."""
    ended: dict[str, set[str]] = {}
    for item in get("-A", "pods", "-l", MARK)["items"]:
        states: list[dict[str, Any]] = item["status"].get("containerStatuses", [])
        for end in (state["state"]["terminated"] for state in states if "terminated" in state["state"]):
            if end["reason"] == "StartError":
                continue
            assert end["exitCode"] == 0, f"{item['metadata']['name']}: {end}"
            ended[item["metadata"]["annotations"][MARK]] = set(json.loads(end["message"]))
    return ended


@contextmanager
def ended(objects: Sequence[Object]) -> Iterator[dict[str, set[str]]]:
    """Create the objects, wait for the end of all pods among them, and delete them when the block ends.

    Yields the targets that each pod reached.
    """
    pods = [item for item in objects if item["kind"] == "Pod"]
    delete()
    try:
        kube("apply", "-f", "-", stdin=as_list(list(objects)))
        wait_for("the end of all pods", lambda: len(results()) == len(pods), 120, every=1)
        yield results()
    finally:
        delete()
