"""An install passes values on, restores lost objects, runs Jobs again, and warns about missing receivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.deploy import chart_values, drift, helm_release, jobs, platform, secrets
from ci.deploy.drift import Difference
from ci.deploy.jobs import Outlived


def test_decimal_numbers_reach_helm_as_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """helm's --set takes 0.5 for a string, which the schemas of the charts refuse."""
    monkeypatch.setattr(chart_values, "CHECKOUT", tmp_path)
    monkeypatch.setattr(chart_values, "egress", lambda _: {"global.kubeApi.cidr": "192.0.2.1/32"})
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "kind.yaml").touch()
    (tmp_path / "values" / "images-kind.yaml").touch()
    words = chart_values.value_arguments("kind", ["a.b=0.5", "a.c=5", "a.d=1.2.3"])
    assert words[-6:] == ["--set-json", "a.b=0.5", "--set", "a.c=5", "--set", "a.d=1.2.3"]


POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: postgres, namespace: mlops}\n"
LOST = Difference("NetworkPolicy", "mlops", "postgres", missing=True)


class Installation:
    """A release whose record equals the charts. `looks` are the results of comparisons with the cluster, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: list[Difference], record: str = POLICY) -> None:
        self.upgrades: list[tuple[str, ...]] = []
        self.record = record
        self.outlived: list[Outlived] = []
        self.deleted: list[Outlived] = []
        self.looks = list(looks)
        monkeypatch.setattr(platform, "delivered_by_argocd", lambda: False)
        monkeypatch.setattr(secrets, "create", list)
        monkeypatch.setattr(chart_values, "value_arguments", lambda *_: [])
        monkeypatch.setattr(helm_release, "dependencies", lambda: 0)
        monkeypatch.setattr(helm_release, "helm", self.helm)
        monkeypatch.setattr(jobs, "outlived", lambda: self.outlived)
        monkeypatch.setattr(jobs, "delete", self.deleted.append)
        monkeypatch.setattr(drift, "read", lambda manifest: [manifest])
        monkeypatch.setattr(drift, "differences", lambda _: self.looks.pop(0))

    def helm(self, *words: str, **_: object) -> str:
        if words[0] == "upgrade":
            self.upgrades.append(words)
            return ""
        return {"list": '[{"status": "deployed"}]', "template": POLICY, "get": self.record}[words[0]]


def test_nothing_is_done_if_neither_the_record_nor_the_cluster_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Installation(monkeypatch, [])
    assert platform.install() is False
    assert release.upgrades == []
    assert release.deleted == []


ALERTMANAGER = """kind: ConfigMap
metadata: {name: alertmanager, namespace: mlops}
data: {alertmanager.yaml: '%s'}
"""
SILENT = ALERTMANAGER % "{receivers: [{name: team}, {name: heartbeat, webhook_configs: [{url_file: x}]}]}"
HEARD = ALERTMANAGER % "{receivers: [{name: team, webhook_configs: [{url_file: x}]}]}"


@pytest.mark.parametrize(
    ("manifest", "warnings"), [(SILENT, 1), (HEARD, 0), (POLICY, 0)], ids=["silent", "heard", "none"]
)
def test_an_install_without_a_receiver_of_alerts_warns_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], manifest: str, warnings: int
) -> None:
    Installation(monkeypatch, [], record=manifest)
    monkeypatch.setattr(helm_release, "rendered", lambda *_: manifest)
    assert platform.install() is False
    output = capsys.readouterr().out
    assert output.count("WARNING: nobody is notified of alerts in kind") == warnings
    assert output.count("docs/how-to/receive-alerts.md") == warnings


def test_a_job_whose_volume_was_lost_is_deleted_before_the_comparison_and_so_created_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = Outlived("minio-provision-1", "data-minio-0")
    release = Installation(monkeypatch, [Difference("Job", "mlops", again.name, missing=True)], [])
    release.outlived = [again]
    assert platform.install() is True
    assert release.deleted == [again]
    assert len(release.upgrades) == 1


def test_a_lost_object_is_named_and_restored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Installation(monkeypatch, [LOST], [])
    assert platform.install() is True
    assert len(release.upgrades) == 1
    assert "NetworkPolicy/postgres is missing; restoring it\n" in capsys.readouterr().out


def test_an_object_that_stays_different_fails_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    Installation(monkeypatch, [LOST], [LOST])
    with pytest.raises(Failure, match="but NetworkPolicy/postgres is missing: another program"):
        platform.install()


def test_a_changed_chart_is_installed_without_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Installation(monkeypatch, record=POLICY.replace("postgres", "minio"))
    assert helm_release.changes(POLICY) == ["NetworkPolicy/minio", "NetworkPolicy/postgres"]
    assert platform.install() is True
    assert len(release.upgrades) == 1
