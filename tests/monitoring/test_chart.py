"""The generated dashboard, rules and runbooks match the rendered chart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.common.paths import CHECKOUT
from ci.deploy import charts
from ci.monitoring import dashboard, dashboard_queries
from ci.monitoring.alerts import ALERTS
from tests.kit.rendering import JOB_STATES

RUNBOOKS = sorted((CHECKOUT / "charts" / "monitoring" / "runbooks").glob("*.md"))
VALUES = ("-f", str(CHECKOUT / "values" / "kind.yaml"), "-f", str(CHECKOUT / "tests" / "kit" / "images.yaml"))
CLUSTER = ("--set", "global.kubeApi.cidr=10.46.0.1/32", "--set", "global.kubeApi.port=6443")
BACKUPS = ("--set", "global.backup.enabled=true")
OPTIONAL = ("--set", "monitoring.grafana.enabled=true")
OPTIONAL += ("--set", f"monitoring.kubeStateMetrics.enabled=true,monitoring.kubeStateMetrics.image={JOB_STATES}")


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """Every object of the platform, with Grafana, kube-state-metrics and backups, by kind and name."""
    charts.dependencies()
    rendered = charts.template("platform", *VALUES, *CLUSTER, *OPTIONAL, *BACKUPS)
    items = [item for item in yaml.safe_load_all(rendered) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


@pytest.fixture(scope="module")
def prometheus(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The configuration of Prometheus."""
    configuration: dict[str, Any] = yaml.safe_load(objects["ConfigMap", "prometheus"]["data"]["prometheus.yaml"])
    return configuration


def test_every_job_in_an_expression_is_scraped(prometheus: dict[str, Any]) -> None:
    scraped = {job["job_name"] for job in prometheus["scrape_configs"]}
    expressions = dashboard_queries() | {alert.name: alert.expr for alert in ALERTS}
    named = re.compile(r'(?:job|config)="([^"]+)"')
    unknown = {
        f"{where}: {job}" for where, expr in expressions.items() for job in named.findall(expr) if job not in scraped
    }
    assert not unknown, "\n".join(sorted(unknown))


def test_prometheus_keeps_the_kubelet_metrics_that_expressions_use(prometheus: dict[str, Any]) -> None:
    """The chart drops most metrics of a kubelet."""
    [cadvisor] = [job for job in prometheus["scrape_configs"] if job["job_name"] == "cadvisor"]
    keep, namespaces = (rule["regex"] for rule in cadvisor["metric_relabel_configs"] if rule["action"] == "keep")
    assert {name for name in ("", "mlops", "mlops-jobs", "other") if re.fullmatch(namespaces, name)} == {
        "", "mlops", "mlops-jobs"
    }  # fmt: skip
    text = " ".join([*dashboard_queries().values(), *(alert.expr for alert in ALERTS)])
    for name in set(re.findall(r"\b(?:container|kubelet)_[a-z_]+", text)):
        assert re.fullmatch(keep, name), f"{name} is dropped by metric_relabel_configs of the job cadvisor"


def test_every_rule_file_reaches_prometheus(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    rules = objects["ConfigMap", "prometheus-rules"]["data"]
    assert set(rules) == {f"{alert.name}.yaml" for alert in ALERTS}
    for alert in ALERTS:
        assert yaml.safe_load(rules[f"{alert.name}.yaml"]) == alert.rules()


def test_without_backups_there_is_no_alert_of_their_age() -> None:
    """The metric is then 0, so the alert would never end."""
    charts.dependencies()
    rendered = yaml.safe_load_all(charts.template("platform", *VALUES, *CLUSTER))
    [rules] = [item["data"] for item in rendered if item and item["metadata"]["name"] == "prometheus-rules"]
    assert set(rules) == {f"{alert.name}.yaml" for alert in ALERTS} - {"BackupTooOld.yaml"}


def test_dashboard_reaches_grafana_with_its_datasource(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    mounted = objects["ConfigMap", "grafana-dashboards"]["data"][f"{dashboard.UID}.json"]
    assert json.loads(mounted) == dashboard.build()
    provisioned = yaml.safe_load(objects["ConfigMap", "grafana"]["data"]["datasources.yaml"])["datasources"]
    assert dashboard.PROMETHEUS.uid in {source["uid"] for source in provisioned}


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_runbook_names_values_and_objects_that_exist(
    runbook: Path, objects: dict[tuple[str, str], dict[str, Any]]
) -> None:
    text = runbook.read_text()
    for name in re.findall(r"`((?:" + "|".join(charts.names()) + r")\.[a-zA-Z.]+)`", text):
        chart, *path = name.split(".")
        value = yaml.safe_load((CHECKOUT / "charts" / chart / "values.yaml").read_text())
        for key in path:
            assert key in value, f"{runbook.name} names the value {name}, which charts/{chart} does not have"
            value = value[key]
    kinds = {"deployment": "Deployment", "svc": "Service", "statefulset": "StatefulSet"}
    for kind, name in re.findall(r"\b(deployment|svc|statefulset)/([a-z-]+)", text):
        assert (kinds[kind], name) in objects, f"{runbook.name} names {kind}/{name}, which is not rendered"
    pods = {f"{name}-0" for kind, name in objects if kind == "StatefulSet"}
    assert set(re.findall(r"\b[a-z]+-0\b", text)) - {"data-postgres-0"} <= pods
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (runbook.parent / link).exists(), f"{runbook.name} links {link}"
