"""Secrets appear by name only, and every name and key is one that `make secrets` makes, and the other way round."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ci.secrets import generate
from tests.charts.rendering import Object, Workload, name, objects, workloads

MADE = generate("mlops", "mlops-jobs")


def references(workload: Workload) -> Iterator[tuple[str, str, str | None]]:
    """Container (or volume), Secret, and the key if one is named."""
    for container in workload.containers:
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield container["name"], source["secretRef"]["name"], None
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield f"{container['name']}.{variable['name']}", reference["name"], reference["key"]
    for volume in workload.pod.get("volumes", []):
        if "secret" in volume:
            yield f"volume {volume['name']}", volume["secret"]["secretName"], None
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source:
                yield f"volume {volume['name']}", source["secret"]["name"], None


def test_no_chart_makes_a_secret(variant: str) -> None:
    assert [name(item) for item in objects(variant) if item["kind"] == "Secret"] == []


def test_secret_and_key_exist(workload: Workload) -> None:
    for where, secret, key in references(workload):
        keys = MADE.get((workload.namespace, secret))
        assert keys is not None, f"{workload.name}: {where} reads Secret {secret}, which `make secrets` does not make"
        assert key is None or key in keys, f"{workload.name}: {where} reads {secret}/{key}; there are {sorted(keys)}"


def test_no_value_of_a_secret_is_written_into_a_manifest(variant: str) -> None:
    """Nor a default that looks like one: variables called PASSWORD, SECRET or TOKEN come from a Secret."""
    for workload in workloads(variant):
        for container in workload.containers:
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "_PASS", "SECRET", "TOKEN", "DSN")):
                    assert "valueFrom" in variable, f"{workload.name}: {variable['name']} is written out"
    for item in (item for item in objects(variant) if item["kind"] == "ConfigMap"):
        text = json.dumps(item["data"])
        assert "://" not in text or not _has_password(text), f"{name(item)}: a URL with a password"


def test_every_secret_is_read() -> None:
    read = {(w.namespace, secret) for w in workloads("everything") for _, secret, _ in references(w)}
    read |= {("mlops-jobs", env["data"]["PIPELINE_ENV_SECRET"]) for env in objects("everything") if _is_airflow(env)}
    assert read == set(MADE)


def _is_airflow(item: Object) -> bool:
    return bool(item["kind"] == "ConfigMap" and item["metadata"]["name"] == "airflow")


def _has_password(text: str) -> bool:
    hosts = [part.split("/")[0] for part in text.split("://")[1:]]
    return bool([host for host in hosts if "@" in host and ":" in host.split("@")[0]])
