"""The whole doctor on a cluster that a small kubectl plays: what it asks, what it says, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.doctor.result import Expected
from ci.paths import CHECKOUT
from tests.doctor.servers import Answers, answering

DIGEST = f"sha256:{'a' * 64}"
NEEDS = Expected(
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
    found = [value for name, value in answers.items() if any(word.startswith(name) for word in words)]
    if not found:
        sys.exit("the server doesn't have such a resource")
    if isinstance(found[0], str):
        print(found[0])
    else:
        print(json.dumps({{"items": found[0]}}))
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
        "secrets": [{"metadata": {"namespace": "mlops", "name": "minio"}}],
        "deployments": "deployment.apps/mlflow",
        "pods": [{"metadata": {"name": "ui"}, "status": {"phase": "Running", "conditions": conditions}}],
    }


ALERTS = {"data": {"alerts": [{"labels": {"alertname": "PostgresDown", "severity": "critical"}, "state": "firing"}]}}


def look(
    folder: Path, cluster: dict[str, Any], *words: str, alerts: bytes = b""
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and results by check, the first of each."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/answers.json").write_text(json.dumps(cluster))
    (folder / "expected.json").write_text(NEEDS.save())
    said = {"/version": Answers(200, b"3.17.2"), "/api/v1/alerts": Answers(200, alerts or b'{"data": {"alerts": []}}')}
    with answering(Answers(404, by_path=said)) as (port, _):
        program = folder / "bin/kubectl"
        program.write_text(KUBECTL.format(python=sys.executable).replace("PORT", str(port)))
        program.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-S", "-m", "ci.doctor", "--expected", str(folder / "expected.json"), "--json", *words],
            cwd=CHECKOUT, env={"PATH": str(folder / "bin"), "HOUSE_STATE_DIR": str(folder / "none"), "KUBECONFIG": "x"},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, {one["check"]: one for one in reversed(json.loads(done.stdout)["results"])}


MACHINE = ("cpu", "memory", "disk", "cgroups", "inotify", "clock", "name servers")  # of whoever runs this test


def levels(found: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: one["level"] for name, one in found.items() if name not in (*MACHINE, "cidr", "architecture")}


def test_a_platform_that_is_well(tmp_path: Path) -> None:
    _, found = look(tmp_path, answers())
    assert levels(found) == {
        "data API rule": "skip", "data API": "skip", "kubernetes": "ok", "helm": "ok", "nodes": "ok", "storage": "ok",
        "secrets": "ok", "policies": "skip", "image ui": "ok", "mlflow": "ok", "pods": "ok", "alerts": "ok",
    }  # fmt: skip
    assert "the running server 3.17.2" in found["mlflow"]["what"]


def test_before_an_install_neither_images_nor_what_is_installed_count(tmp_path: Path) -> None:
    _, found = look(tmp_path, answers(), "--before")
    assert not {"image ui", "images", "mlflow", "pods", "alerts"} & set(found)


@pytest.mark.parametrize(
    ("change", "options", "check"),
    [
        ({"pods": [{"metadata": {"name": "ui"}, "status": {"phase": "Pending"}}]}, (), "pod ui"),
        ({"storageclasses": []}, (), "storage"),
        ({"deployments": ""}, ("--installed",), "platform"),
        ({"nodes": [{"metadata": {"name": "n"}, "spec": {}, "status": {}}]}, (), "image ui"),
    ],
)
def test_one_fault_fails_the_whole(
    tmp_path: Path, change: dict[str, Any], options: tuple[str, ...], check: str
) -> None:
    code, found = look(tmp_path, answers() | change, *options)
    assert code == 1
    assert (found[check]["level"], bool(found[check]["mend"])) == ("fail", True)


def test_alert_that_is_firing_fails(tmp_path: Path) -> None:
    code, found = look(tmp_path, answers(), alerts=json.dumps(ALERTS).encode())
    assert (code, found["alert PostgresDown"]["level"]) == (1, "fail")


def test_answer_that_makes_no_sense_ends_one_check_only(tmp_path: Path) -> None:
    _, found = look(tmp_path, answers() | {"nodes": "this is no JSON"})
    assert (found["nodes"]["level"], found["secrets"]["level"]) == ("warn", "ok")
    assert found["nodes"]["what"].startswith("could not look: ")
