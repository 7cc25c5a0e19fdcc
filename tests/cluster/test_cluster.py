"""The one-node cluster is a Kubernetes as others are, can be brought up again at any time, and forgets nothing.

The tests that kill and stop come last; they work, and take longer, where a platform is installed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ci.cluster import onenode, processes, settings
from ci.console import run, wait_for
from ci.kube import environment, get, kube, kubectl
from tests.cluster.objects import apply, namespaces, policy, probe, thing

pytestmark = pytest.mark.e2e
SPACE = "house-test"
RESTRICTED = "house-test-restricted"
SYSTEM = ("kube-system", "local-path-storage")
PORT = 8080


@pytest.fixture(scope="module", autouse=True)
def keeper() -> Iterator[None]:
    """A server that keeps a line for each of its starts in a volume, and a client that no policy admits to it."""
    script = f"date -Iseconds >> /data/starts; exec probe serve :{PORT}"
    server = probe(script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    workload = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app": "keeper"}},
        "template": {
            "metadata": {"labels": {"app": "keeper"}},
            "spec": {"containers": [server], "volumes": [volume], "terminationGracePeriodSeconds": 1},
        },
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    pod = {"containers": [probe("while sleep 1; do :; done")], "terminationGracePeriodSeconds": 0}
    with namespaces({SPACE: {}, RESTRICTED: {"pod-security.kubernetes.io/enforce": "restricted"}}):
        apply(
            thing("PersistentVolumeClaim", SPACE, "data", {"spec": claim}),
            thing("Deployment", SPACE, "keeper", {"spec": workload}, "apps/v1"),
            thing("Service", SPACE, "keeper", {"spec": {"selector": {"app": "keeper"}, "ports": [{"port": PORT}]}}),
            thing("Pod", SPACE, "client", {"spec": pod}),
            thing("ConfigMap", SPACE, "note", {"data": {"text": "written before"}}),
            policy(SPACE, "closed", podSelector={"matchLabels": {"app": "keeper"}}, policyTypes=["Ingress"]),
        )
        await_keeper()
        yield


def await_keeper() -> None:
    kube("-n", SPACE, "rollout", "status", "deployment/keeper", "--timeout=60s")
    kube("-n", SPACE, "wait", "pod/client", "--for=condition=Ready", "--timeout=60s")


def client(*words: str) -> str:
    """What the probe says in the client's pod, in one line."""
    command = [kubectl(), "-n", SPACE, "exec", "client", "--", "probe", *words]
    done = run(command, env=environment(), check=False)
    return f"{done.stdout} {done.stderr}".strip()


def starts() -> list[str]:
    """The lines that the server has written into its volume."""
    return kube("-n", SPACE, "exec", "deployment/keeper", "--", "cat", "/data/starts").split()


def pids() -> dict[str, int]:
    """Process id of each of the cluster's programs that runs."""
    found = {name: processes.running(name) for name in onenode.COMPONENTS}
    return {name: process.pid for name, process in found.items() if process}


def containers() -> dict[str, tuple[str, int]]:
    """Id and number of restarts of each container of the add-ons and of this test."""
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": (box["containerID"], box["restartCount"])
        for space in (*SYSTEM, SPACE)
        for pod in get("-n", space, "pods")["items"]
        for box in pod["status"]["containerStatuses"]
    }


def not_ready() -> list[str]:
    """Add-ons that are not Ready."""
    items: list[dict[str, Any]] = [one for space in SYSTEM for one in get("-n", space, "deployments")["items"]]
    return [one["metadata"]["name"] for one in items if one["status"].get("readyReplicas", 0) < 1]


def test_the_version_served_is_the_one_in_go_mod() -> None:
    wanted = settings.module_version("k8s.io/kubernetes")
    served = json.loads(kube("version", "-o", "json"))
    node = get("node", settings.NODE)["status"]["nodeInfo"]["kubeletVersion"]
    versions = {"server": served["serverVersion"]["gitVersion"], "kubectl": served["clientVersion"]["gitVersion"]}
    assert versions | {"kubelet": node} == dict.fromkeys(("server", "kubectl", "kubelet"), wanted)


def test_each_program_listens_on_its_own_ports_and_no_other() -> None:
    lines = run(["ss", "-Hltnp"]).stdout.splitlines()
    for name, pid in pids().items():
        listening = {int(line.split()[3].rpartition(":")[2]) for line in lines if f"pid={pid}," in line}
        if name in settings.PORTS:
            assert listening == set(settings.PORTS[name]), f"{name} listens on {sorted(listening)}"


def test_nothing_listens_on_the_machine_s_own_addresses() -> None:
    allowed = ("127.0.0.1", settings.NODE_ADDRESS)
    for line in run(["ss", "-Hltnp"]).stdout.splitlines():
        if any(f"pid={pid}," in line for pid in pids().values()):
            assert line.split()[3].rpartition(":")[0] in allowed, line


def test_a_pod_finds_services_by_name() -> None:
    address = get("-n", SPACE, "service", "keeper")["spec"]["clusterIP"]
    for name in ("keeper", f"keeper.{SPACE}", f"keeper.{SPACE}.svc.{settings.DOMAIN}"):
        assert client("lookup", name) == f"[{address}]"


def test_a_volume_of_the_default_class_keeps_its_data_when_its_pod_goes() -> None:
    before = starts()
    kube("-n", SPACE, "delete", "pod", "-l", "app=keeper", "--timeout=60s")
    await_keeper()
    after = starts()
    assert after[: len(before)] == before, "lines were lost"
    assert len(after) == len(before) + 1


def test_the_use_of_cpu_and_memory_is_measured() -> None:
    def top() -> list[str]:
        return kube("top", "node", "--no-headers", check=False).split()

    wait_for("an answer of `kubectl top node`", lambda: top()[:1] == [settings.NODE], 60, every=1)


def test_the_metrics_of_a_container_name_its_pod() -> None:
    """What dashboards and alerts of containers are made of."""

    def named() -> bool:
        lines = kube("get", "--raw", f"/api/v1/nodes/{settings.NODE}/proxy/metrics/cadvisor").splitlines()
        return any(
            line.startswith("container_memory_working_set_bytes")
            and 'container="coredns"' in line
            and 'pod=""' not in line
            for line in lines
        )

    wait_for("the memory of the container coredns, with its pod", named, 60, every=1)


def test_a_restricted_namespace_refuses_a_privileged_pod() -> None:
    pod = thing(
        "Pod", RESTRICTED, "bad", {"spec": {"containers": [probe("true", securityContext={"privileged": True})]}}
    )
    command = [kubectl(), "apply", "--dry-run=server", "-f", "-"]
    refused = run(command, stdin=json.dumps(pod), env=environment(), check=False)
    assert refused.returncode, "a privileged pod was admitted"
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_up_again_changes_nothing_and_is_quick() -> None:
    before, boxes, began = pids(), containers(), time.monotonic()
    onenode.up()
    seconds = time.monotonic() - began
    assert pids() == before, "a process was started anew"
    assert containers() == boxes, "a container was started anew"
    assert seconds < 15, f"{seconds:.0f} s for nothing"


def test_a_killed_control_plane_is_brought_back_without_touching_containers() -> None:
    before, boxes = pids(), containers()
    address = get("-n", SPACE, "service", "keeper")["spec"]["clusterIP"]
    killed = {"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
    for name in killed:
        os.kill(before[name], signal.SIGKILL)
    wait_for("the end of the killed processes", lambda: not killed & set(pids()), 10)
    with socket.create_connection((address, PORT), timeout=5):
        pass  # Services answer while nobody governs them
    onenode.up()
    after = pids()
    assert {name for name in before if after.get(name) != before[name]} == killed
    assert containers() == boxes, "a container was started anew"


@pytest.mark.timeout(600)
def test_stop_and_start_keep_volumes_objects_and_policies() -> None:
    lines, note = starts(), get("-n", SPACE, "configmap", "note")
    onenode.stop()
    assert pids() == {}, "programs are left after `stop`"
    onenode.start()
    assert not_ready() == []
    await_keeper()
    assert starts()[: len(lines)] == lines, "the volume lost lines"
    assert get("-n", SPACE, "configmap", "note") == note
    assert "timeout" in client("dial", f"keeper:{PORT}"), "the policy does not hold any more"
    kube("-n", SPACE, "delete", "networkpolicy", "closed")
    assert client("dial", f"keeper:{PORT}").startswith("connected"), "only the policy was in the way"
