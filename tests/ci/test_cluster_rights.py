"""`make secrets` gives Prometheus the right to read nodes and their metrics, and no other right outside a namespace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.common.console import Failure
from ci.deploy import cluster_rights

FORBIDDEN = 'clusterroles.rbac.authorization.k8s.io "x" is forbidden: User "u" cannot patch resource'


def test_right_is_to_read_nodes_and_their_metrics() -> None:
    role, binding = cluster_rights.objects("mlops")
    verbs = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {("nodes", "get"), ("nodes", "list"), ("nodes", "watch"), ("nodes/metrics", "get")}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "mlops"}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", role["metadata"]["name"])


def test_platforms_of_one_cluster_do_not_share_an_object() -> None:
    names = [item["metadata"]["name"] for space in ("mlops", "other") for item in cluster_rights.objects(space)]
    assert len(set(names)) == 2, "a second platform would take the right of the first"


def test_what_is_granted_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    present: set[tuple[str, str]] = set()

    def kube(action: str, *words: str, stdin: str = "") -> str:
        if action == "apply":
            present.update((item["kind"], item["metadata"]["name"]) for item in json.loads(stdin)["items"])
        else:
            present.remove((words[0], words[1]))
        return ""

    monkeypatch.setattr(cluster_rights, "kube", kube)
    cluster_rights.grant("mlops")
    assert len(present) == 2
    cluster_rights.revoke("mlops")
    assert present == set()


def test_installer_without_rights_in_the_cluster_is_warned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise Failure(FORBIDDEN)

    monkeypatch.setattr(cluster_rights, "kube", refuse)
    cluster_rights.grant("mlops")
    assert "WARNING: Prometheus in mlops may not read the kubelets" in capsys.readouterr().out


def test_any_other_failure_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise Failure("the server was not able to answer")

    monkeypatch.setattr(cluster_rights, "kube", fail)
    with pytest.raises(Failure, match="not able to answer"):
        cluster_rights.grant("mlops")
