"""The whole doctor on a cluster that a small kubectl plays: what it asks, what it says, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.common.paths import CHECKOUT
from ci.doctor.requirements import Requirements
from tests.doctor.servers import Answers, answering

DIGEST = f"sha256:{'a' * 64}"
NEEDS = Requirements(
    "kind",
    images=[f"localhost/house-platform/ui:1@{DIGEST}"],
    secrets=["mlops/minio"],
    storage_classes=[""],
    mlflow={"server": "3.17.2", "pipeline": "3.17.2"},
)
# Answers of `kubectl get`, by the word that tells them apart; port-forward leads to PORT.
KUBECTL = """#!{python}
import json, pathlib, sys, time
words, here = sys.argv[1:], pathlib.Path(__file__).parent
if "port-forward" in words:
    print("Forwarding from 127.0.0.1:PORT -> 5000", flush=True)
    time.sleep(60)
elif "version" in words:
    print('{{"serverVersion": {{"gitVersion": "v1.36.3"}}, "clientVersion": {{"gitVersion": "v1.36.3"}}}}')
elif "/readyz" in words:
    print("ok")
else:
    answers = json.loads((here / "answers.json").read_text())
    items = [value for name, value in answers.items() if any(word.startswith(name) for word in words)]
    if not items:
        sys.exit("the server doesn't have such a resource")
    if isinstance(items[0], str):
        print(items[0])
    else:
        print(json.dumps({{"items": items[0]}}))
"""


def answers() -> dict[str, Any]:
    """A cluster and a platform that are well."""
    conditions = [{"type": "Ready", "status": "True"}]
    image = {"names": [f"localhost/house-platform/ui@{DIGEST}"]}
    node = {
        "metadata": {"name": "n"},
        "spec": {"podCIDR": "10.44.0.0/24"},
        "status": {"conditions": conditions, "images": [image]},
    }
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "nodes": [node],
        "servicecidrs": [{"spec": {"cidrs": ["10.45.0.0/16"]}}],
        "storageclasses": [{"metadata": {"name": "local-path", "annotations": default}}],
        "applications": [APPLICATION],
        "jobs": [],
        "persistentvolumeclaims": [],
        "secrets": [{"metadata": {"namespace": "mlops", "name": "minio"}}],
        "deployments": "deployment.apps/mlflow",
        "pods": [{"metadata": {"name": "ui"}, "status": {"phase": "Running", "conditions": conditions}}],
    }


# helm would ask a real API server, so Argo CD delivers this platform.
APPLICATION: dict[str, Any] = {
    "metadata": {"name": "postgres"},
    "status": {
        "sync": {"status": "Synced"},
        "health": {"status": "Healthy"},
        "resources": [{"kind": "NetworkPolicy", "namespace": "mlops", "name": "postgres", "status": "Synced"}],
    },
}
LOST = {**APPLICATION["status"]["resources"][0], "status": "OutOfSync", "health": {"status": "Missing"}}
ALERTS = {"data": {"alerts": [{"labels": {"alertname": "PostgresDown", "severity": "critical"}, "state": "firing"}]}}


def look(
    folder: Path, cluster: dict[str, Any], *words: str, alerts: bytes = b""
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and results by check, the first of each."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/answers.json").write_text(json.dumps(cluster))
    (folder / "requirements.json").write_text(NEEDS.save())
    replies = {
        "/version": Answers(200, b"3.17.2"),
        "/api/v1/alerts": Answers(200, alerts or b'{"data": {"alerts": []}}'),
    }
    with answering(Answers(404, by_path=replies)) as (port, _):
        program = folder / "bin/kubectl"
        program.write_text(KUBECTL.format(python=sys.executable).replace("PORT", str(port)))
        program.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-S", "-m", "ci.doctor", "--requirements", folder / "requirements.json", "--json", *words],
            cwd=CHECKOUT, env={"PATH": str(folder / "bin"), "HOUSE_STATE_DIR": str(folder / "none"), "KUBECONFIG": "x"},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, {one["check"]: one for one in reversed(json.loads(done.stdout)["results"])}


MACHINE = (
    "cpu",
    "memory",
    "disk",
    "cgroups",
    "inotify",
    "clock",
    "name servers",
)  # they depend on the machine that runs the test


def levels(results: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: one["level"] for name, one in results.items() if name not in (*MACHINE, "cidr", "architecture")}


def test_a_healthy_platform(tmp_path: Path) -> None:
    _, results = look(tmp_path, answers())
    assert levels(results) == {
        "data API rule": "skip", "data API": "skip", "kubernetes": "ok", "helm": "ok", "nodes": "ok", "storage": "ok",
        "secrets": "ok", "receivers": "ok", "policies": "skip", "image ui": "ok", "mlflow": "ok",
        "application postgres": "ok", "objects": "ok", "jobs": "ok", "pods": "ok", "alerts": "ok",
    }  # fmt: skip
    assert "the running server 3.17.2" in results["mlflow"]["what"]


def test_before_skips_images_and_the_installed_platform(tmp_path: Path) -> None:
    _, results = look(tmp_path, answers(), "--before")
    assert not {"image ui", "images", "mlflow", "objects", "jobs", "pods", "alerts"} & set(results)


@pytest.mark.parametrize(
    ("change", "options", "check"),
    [
        ({"pods": [{"metadata": {"name": "ui"}, "status": {"phase": "Pending"}}]}, (), "pod ui"),
        ({"storageclasses": []}, (), "storage"),
        ({"applications": [{**APPLICATION, "status": {"resources": [LOST]}}]}, (), "objects"),
        ({"deployments": ""}, ("--installed",), "platform"),
        ({"nodes": [{"metadata": {"name": "n"}, "spec": {}, "status": {}}]}, (), "image ui"),
    ],
)
def test_one_fault_fails_the_doctor(
    tmp_path: Path, change: dict[str, Any], options: tuple[str, ...], check: str
) -> None:
    code, results = look(tmp_path, answers() | change, *options)
    assert code == 1
    assert (results[check]["level"], bool(results[check]["remedy"])) == ("fail", True)


def test_alert_that_is_firing_fails(tmp_path: Path) -> None:
    code, results = look(tmp_path, answers(), alerts=json.dumps(ALERTS).encode())
    assert (code, results["alert PostgresDown"]["level"]) == (1, "fail")


def test_invalid_answer_fails_one_check_only(tmp_path: Path) -> None:
    _, results = look(tmp_path, answers() | {"nodes": "this is not JSON"})
    assert (results["nodes"]["level"], results["secrets"]["level"]) == ("warn", "ok")
    assert results["nodes"]["what"].startswith("the check itself failed: ")
