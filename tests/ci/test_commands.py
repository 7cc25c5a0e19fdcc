"""A command of the pipeline on a cluster: a pod like the stages', its log, its exit code, and nothing left."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ci import commands
from ci.console import Failure
from tests.charts.rendering import find, objects


class Cluster:
    """Answers kubectl's calls; a pod is in each of `phases` for one call."""

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
    box = {"name": "base", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [box]}


WAITING = {
    "phase": "Pending",
    "containerStatuses": [{"name": "base", "state": {"waiting": {"reason": "ErrImagePull"}}}],
}
STARTING = {"phase": "Pending"}
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "base", "state": {"running": {}}}]}
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a cluster in the place of kubectl's."""

    def use(cluster: Cluster) -> Cluster:
        monkeypatch.setattr(commands, "kube", cluster.kube)
        monkeypatch.setattr(commands, "get", cluster.get)
        monkeypatch.setattr(commands, "kubectl", lambda: "kubectl")
        monkeypatch.setattr(commands, "subprocess", SimpleNamespace(run=cluster.run))
        return cluster

    return use


@pytest.mark.parametrize("code", [0, 1, 99])
def test_exit_code_is_the_pods_and_the_pod_is_removed(on: Any, code: int) -> None:
    cluster = on(Cluster([STARTING, RUNNING, RUNNING, ended(code)]))
    assert commands.run(["lineage", "--version", "3"]) == code
    assert cluster.logs == ["pod/pipeline-lineage-x7"]
    assert cluster.pods == {}


@pytest.mark.parametrize(
    ("state", "words"), [(WAITING, "cannot start: base: ErrImagePull"), (EVICTED, "Evicted: the node")]
)
def test_pod_that_does_not_run_is_a_sentence_and_is_removed(on: Any, state: dict[str, Any], words: str) -> None:
    cluster = on(Cluster([state]))
    with pytest.raises(Failure, match=words):
        commands.run(["smoke"])
    assert cluster.pods == {}


def test_without_the_platform_it_says_so(on: Any) -> None:
    on(Cluster([], installed=False))
    with pytest.raises(Failure, match="there is no PodTemplate pipeline in mlops-jobs: install the platform"):
        commands.run(["smoke"])


def test_pod_is_the_charts_with_the_words_as_arguments() -> None:
    template = find(objects("kind"), "PodTemplate", "pipeline", "mlops-jobs")["template"]
    before = json.dumps(template)
    made = commands.pod(template, ["rollback", "--to", "3", "--reason", "it's --absurd"])
    assert json.dumps(template) == before
    assert made["spec"]["containers"][0].pop("args") == ["rollback", "--to", "3", "--reason", "it's --absurd"]
    expected = json.loads(before)
    del expected["spec"]["containers"][0]["args"]
    assert made["spec"] == expected["spec"]
    assert made["metadata"]["labels"] == template["metadata"]["labels"]
    assert (made["kind"], made["metadata"]["namespace"]) == ("Pod", "mlops-jobs")


def test_words_that_the_pipeline_does_not_know_cost_no_pod(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["commands", "lineage"])
    with pytest.raises(SystemExit) as left:
        commands._main()
    assert left.value.code == 2
    assert "--version" in capsys.readouterr().err
