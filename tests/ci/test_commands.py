"""`python -m ci.deploy.commands` runs a pipeline command in a pod, prints its log, and returns its exit code."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ci.common.console import Failure
from ci.deploy import commands
from tests.kit.rendering import find, objects


class Cluster:
    """Stand-in for kubectl; the pod is in each of `phases` for one call, and stays in the last one."""

    def __init__(self, phases: list[dict[str, Any]], installed: bool = True) -> None:
        self.phases, self.installed = phases, installed
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: list[str] = []

    def kube(self, *words: str, stdin: str = "", **_: Any) -> str:
        if words[0] == "create":
            self.pods["pod/pipeline-lineage-x7"] = json.loads(stdin)
            return "pod/pipeline-lineage-x7\n"
        if "delete" in words:
            assert self.pods.pop(words[words.index("delete") + 1])
            return ""
        if words[:2] == ("auth", "whoami"):
            return "ana@house.example"
        assert "podtemplates" in words
        return "podtemplate/pipeline" if self.installed else ""

    def get(self, *words: str) -> dict[str, Any]:
        if "podtemplates" in words:
            return find(objects("kind"), "PodTemplate", "pipeline", "mlops-jobs")
        status = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        return {"metadata": {"name": "pipeline-lineage-x7"}, "status": status}

    def run(self, command: list[str], **_: Any) -> None:
        self.logs.append(command[-1])


def ended(code: int) -> dict[str, Any]:
    container = {"name": "base", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}


WAITING = {
    "phase": "Pending",
    "containerStatuses": [{"name": "base", "state": {"waiting": {"reason": "ErrImagePull"}}}],
}
STARTING = {"phase": "Pending"}
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "base", "state": {"running": {}}}]}
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces kubectl with a stand-in."""

    def use(cluster: Cluster) -> Cluster:
        monkeypatch.setattr(commands, "kube", cluster.kube)
        monkeypatch.setattr(commands, "get", cluster.get)
        monkeypatch.setattr(commands, "kubectl", lambda: "kubectl")
        monkeypatch.setattr(commands, "subprocess", SimpleNamespace(run=cluster.run))
        return cluster

    return use


@pytest.mark.parametrize("code", [0, 1, 99])
def test_returns_the_exit_code_of_the_pod_and_removes_it(on: Any, code: int) -> None:
    cluster = on(Cluster([STARTING, RUNNING, RUNNING, ended(code)]))
    assert commands.run(["lineage", "--version", "3"]) == code
    assert cluster.logs == ["pod/pipeline-lineage-x7"]
    assert cluster.pods == {}


@pytest.mark.parametrize(
    ("state", "words"), [(WAITING, "cannot start: base: ErrImagePull"), (EVICTED, "Evicted: the node")]
)
def test_pod_that_does_not_run_fails_with_its_reason_and_is_removed(on: Any, state: dict[str, Any], words: str) -> None:
    cluster = on(Cluster([state]))
    with pytest.raises(Failure, match=words):
        commands.run(["smoke"])
    assert cluster.pods == {}


def test_ledger_gets_the_user_of_this_machine_and_of_kubernetes(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ana")
    cluster = on(Cluster([RUNNING, ended(0)]))
    assert commands.who() == "ana (Kubernetes user ana@house.example)"
    monkeypatch.setattr(commands, "kube", lambda *_, **__: "")
    assert commands.who() == "ana"
    assert cluster.pods == {}


def test_fails_without_the_platform(on: Any) -> None:
    on(Cluster([], installed=False))
    with pytest.raises(Failure, match="there is no PodTemplate pipeline in mlops-jobs: install the platform"):
        commands.run(["smoke"])


def test_pod_is_the_template_of_the_chart_with_the_arguments() -> None:
    template = find(objects("kind"), "PodTemplate", "pipeline", "mlops-jobs")["template"]
    before = json.dumps(template)
    pod = commands.pod(template, ["rollback", "--to", "3", "--reason", "it's --absurd"], "ana")
    assert json.dumps(template) == before
    assert pod["spec"]["containers"][0].pop("args") == ["rollback", "--to", "3", "--reason", "it's --absurd"]
    assert pod["spec"]["containers"][0]["env"].pop() == {"name": "ACTOR", "value": "ana"}
    expected = json.loads(before)
    del expected["spec"]["containers"][0]["args"]
    assert pod["spec"] == expected["spec"]
    assert pod["metadata"]["labels"] == template["metadata"]["labels"]
    assert (pod["kind"], pod["metadata"]["namespace"]) == ("Pod", "mlops-jobs")


def test_wrong_arguments_are_refused_without_a_pod(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["commands", "lineage"])
    with pytest.raises(SystemExit) as exit_info:
        commands._main()
    assert exit_info.value.code == 2
    assert "--version" in capsys.readouterr().err
