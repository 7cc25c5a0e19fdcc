"""Manifests contain only names of Secrets. `make secrets` creates exactly the Secrets and keys that they name."""

from __future__ import annotations

import json

from tests.charts.secret_references import MADE, OUTSIDE, references
from tests.kit.rendering import Object, Workload, name, objects, workloads


def test_no_chart_creates_a_secret(variant: str) -> None:
    assert [name(item) for item in objects(variant) if item["kind"] == "Secret"] == []


def test_secret_and_key_exist(workload: Workload) -> None:
    for where, secret, key in references(workload):
        if (workload.namespace, secret) in OUTSIDE:
            continue
        keys = MADE.get((workload.namespace, secret))
        assert keys is not None, f"{workload.name}: {where} reads Secret {secret}, which `make secrets` does not create"
        assert key is None or key in keys, f"{workload.name}: {where} reads {secret}/{key}; there are {sorted(keys)}"


def test_secret_that_nobody_creates_is_optional(workload: Workload) -> None:
    for container in workload.containers:
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            if (workload.namespace, reference.get("name")) in OUTSIDE:
                assert reference.get("optional"), f"{workload.name}: {variable['name']}"
    for volume in workload.pod.get("volumes", []):
        if (workload.namespace, volume.get("secret", {}).get("secretName")) in OUTSIDE:
            assert volume["secret"].get("optional"), f"{workload.name}: volume {volume['name']}"


def test_no_manifest_contains_a_secret_value(variant: str) -> None:
    """Variables with PASSWORD, SECRET, TOKEN or DSN in their name come from a Secret."""
    for workload in workloads(variant):
        for container in workload.containers:
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "_PASS", "SECRET", "TOKEN", "DSN")):
                    assert "valueFrom" in variable, f"{workload.name}: {variable['name']} has a literal value"
    for item in (item for item in objects(variant) if item["kind"] == "ConfigMap"):
        text = json.dumps(item["data"])
        assert "://" not in text or not _has_password(text), f"{name(item)}: a URL with a password"


def test_every_secret_is_read() -> None:
    read = {(w.namespace, secret) for w in workloads("everything") for _, secret, _ in references(w)}
    read |= {("mlops-jobs", env["data"]["PIPELINE_ENV_SECRET"]) for env in objects("everything") if _is_airflow(env)}
    assert read - OUTSIDE == set(MADE)


def _is_airflow(item: Object) -> bool:
    return bool(item["kind"] == "ConfigMap" and item["metadata"]["name"] == "airflow")


def _has_password(text: str) -> bool:
    hosts = [part.split("/")[0] for part in text.split("://")[1:]]
    return bool([host for host in hosts if "@" in host and ":" in host.split("@")[0]])
