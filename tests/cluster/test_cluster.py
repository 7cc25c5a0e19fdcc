"""The kind cluster works on every node, `up` can run at any time, and a restart loses nothing.

The tests that stop nodes come last. They also work with an installed platform, but take longer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ci.cluster import settings
from ci.cluster.choice import choose
from ci.cluster.docker import choose as docker_engine
from ci.cluster.kind import Kind
from ci.cluster.readiness import not_ready
from ci.common.console import run, wait_for
from ci.common.kube import environment, get, kube, kubectl
from tests.cluster.objects import apply, namespaces, policy, probe, thing

pytestmark = pytest.mark.e2e
SPACE = "house-test"
RESTRICTED = "house-test-restricted"
SYSTEM = ("kube-system", "local-path-storage")
PORT = 8080
SECURITY = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def keeper(kind_cluster: None) -> Iterator[None]:
    """A server that appends a line to a volume at each start, and a client that a policy keeps away from it."""
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
    kube("-n", SPACE, "rollout", "status", "deployment/keeper", "--timeout=90s")
    kube("-n", SPACE, "wait", "pod/client", "--for=condition=Ready", "--timeout=90s")


def say_in(namespace: str, pod: str, *words: str) -> str:
    """Run the probe in a pod; returns its output in one line."""
    command = [kubectl(), "-n", namespace, "exec", pod, "--", "probe", *words]
    done = run(command, env=environment(), check=False)
    return f"{done.stdout} {done.stderr}".strip()


def starts() -> list[str]:
    """The lines that the server wrote into its volume."""
    return kube("-n", SPACE, "exec", "deployment/keeper", "--", "cat", "/data/starts").split()


def containers() -> dict[str, tuple[str, int]]:
    """Id and number of restarts of each container of the add-ons and of this test."""
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": (box["containerID"], box["restartCount"])
        for space in (*SYSTEM, SPACE)
        for pod in get("-n", space, "pods")["items"]
        for box in pod["status"]["containerStatuses"]
    }


def test_every_node_and_the_client_have_the_version_of_the_api_server(nodes: list[str]) -> None:
    versions = json.loads(kube("version", "-o", "json"))
    wanted = versions["serverVersion"]["gitVersion"]
    assert versions["clientVersion"]["gitVersion"] == wanted
    kubelets = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in get("nodes")["items"]
    }
    assert kubelets == dict.fromkeys(nodes, wanted)


@pytest.mark.timeout(300)
def test_restricted_pods_work_on_every_node_and_reach_each_other(nodes: list[str]) -> None:
    """On each node: a restricted pod starts, keeps a volume, resolves names, and is reached from every other node."""
    server = probe(f"echo kept > /data/file && exec probe serve :{PORT}", securityContext=SECURITY,
                   volumeMounts=[{"name": "data", "mountPath": "/data"}])  # fmt: skip
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    objects: list[dict[str, Any]] = []
    for number, node in enumerate(nodes):
        spec = {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"fsGroup": 10001},
            "containers": [server],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": f"on-{number}"}}],
        }
        objects.append(thing("PersistentVolumeClaim", RESTRICTED, f"on-{number}", {"spec": claim}))
        objects.append(thing("Pod", RESTRICTED, f"on-{number}", {"spec": spec}))
    apply(*objects)
    kube("-n", RESTRICTED, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s", timeout=150)
    pods = {pod["metadata"]["name"]: pod for pod in get("-n", RESTRICTED, "pods")["items"]}
    assert [pods[f"on-{number}"]["spec"]["nodeName"] for number in range(len(nodes))] == nodes
    address = get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    for source in pods:
        assert kube("-n", RESTRICTED, "exec", source, "--", "cat", "/data/file").strip() == "kept"
        assert say_in(RESTRICTED, source, "lookup", f"kubernetes.default.svc.{settings.DOMAIN}") == f"[{address}]"
        for target, pod in pods.items():
            answer = say_in(RESTRICTED, source, "get", f"http://{pod['status']['podIP']}:{PORT}/")
            assert answer.startswith(f"200 {target} from"), f"{source} -> {target}: {answer}"


def test_kubectl_top_reports_every_node(nodes: list[str]) -> None:
    def measured() -> set[str]:
        return {line.split()[0] for line in kube("top", "nodes", "--no-headers", check=False).splitlines()}

    wait_for("`kubectl top nodes` of all nodes", lambda: measured() == set(nodes), 90, every=1)


def test_a_pod_finds_services_by_name() -> None:
    address = get("-n", SPACE, "service", "keeper")["spec"]["clusterIP"]
    for name in ("keeper", f"keeper.{SPACE}", f"keeper.{SPACE}.svc.{settings.DOMAIN}"):
        assert say_in(SPACE, "client", "lookup", name) == f"[{address}]"


def test_a_volume_of_the_default_class_keeps_its_data_when_its_pod_is_replaced() -> None:
    before = starts()
    kube("-n", SPACE, "delete", "pod", "-l", "app=keeper", "--timeout=60s")
    await_keeper()
    after = starts()
    assert after[: len(before)] == before, "lines were lost"
    assert len(after) == len(before) + 1


def test_the_metrics_of_a_container_name_its_pod(nodes: list[str]) -> None:
    """Dashboards and alerts about containers need the label `pod`."""

    def named(node: str) -> bool:
        lines = kube("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/cadvisor", check=False).splitlines()
        return any(line.startswith("container_memory_working_set_bytes") and 'container="kube-proxy"' in line
                   and 'pod=""' not in line for line in lines)  # fmt: skip

    for node in nodes:
        wait_for(f"the memory of the container kube-proxy on {node}, with its pod", lambda node=node: named(node), 60)


def test_a_restricted_namespace_refuses_a_privileged_pod() -> None:
    pod = thing(
        "Pod", RESTRICTED, "bad", {"spec": {"containers": [probe("true", securityContext={"privileged": True})]}}
    )
    command = [kubectl(), "apply", "--dry-run=server", "-f", "-"]
    refused = run(command, stdin=json.dumps(pod), env=environment(), check=False)
    assert refused.returncode, "a privileged pod was admitted"
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_a_second_up_changes_nothing_and_takes_less_than_15_seconds() -> None:
    boxes, began = containers(), time.monotonic()
    Kind().up()
    seconds = time.monotonic() - began
    assert containers() == boxes, "a container was restarted"
    assert seconds < 15, f"`up` took {seconds:.0f} s although nothing had to change"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_stop_and_start_keep_volumes_objects_and_policies(nodes: list[str]) -> None:
    """All nodes get new addresses, like after a restart of the machine."""
    lines, note = starts(), get("-n", SPACE, "configmap", "note")
    cluster = choose()
    cluster.stop()
    engine = docker_engine()
    assert engine.own or engine.run("ps", "-q", "--filter", f"label=io.x-k8s.kind.cluster={settings.NAME}") == ""
    cluster.start()
    assert not_ready() == []
    await_keeper()
    assert starts()[: len(lines)] == lines, "the volume lost lines"
    assert get("-n", SPACE, "configmap", "note") == note
    closed = say_in(SPACE, "client", "get", f"http://keeper:{PORT}/")
    assert "timeout" in closed or "deadline" in closed, f"the policy is no longer enforced: {closed}"
    kube("-n", SPACE, "delete", "networkpolicy", "closed")
    wait_for(
        "an answer after the policy was deleted",
        lambda: say_in(SPACE, "client", "get", f"http://keeper:{PORT}/").startswith("200"),
        15,
    )
