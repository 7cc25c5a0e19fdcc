"""Nothing ends a crash recovery of the database, and nothing beside the server decides about its Service."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit.rendering import find, objects

YEAR = 365 * 24 * 3600


def pod(variant: str) -> dict[str, Any]:
    """The pod spec of the database."""
    spec: dict[str, Any] = find(objects(variant), "StatefulSet", "postgres")["spec"]["template"]["spec"]
    return spec


def test_startup_has_no_time_limit(variant: str) -> None:
    """A killed recovery begins again, so with a limit it might never end."""
    [container] = pod(variant)["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > YEAR
    assert probe["failureThreshold"] < 2**31, "the API has 32 bits"


@pytest.mark.parametrize(
    ("answer", "alive"),
    [(0, True), (1, True), (2, False), (3, False)],
    ids=["accepts connections", "recovers", "does not answer", "wrong arguments"],
)
def test_server_that_recovers_is_alive(answer: int, alive: bool, tmp_path: Path) -> None:
    """The probe's command, with the exit codes of pg_isready."""
    (tmp_path / "pg_isready").write_text(f"#!/bin/sh\nexit {answer}\n")
    (tmp_path / "pg_isready").chmod(0o755)
    [container] = pod("kind")["containers"]
    done = subprocess.run(
        container["livenessProbe"]["exec"]["command"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False
    )
    assert (done.returncode == 0) is alive


def test_database_has_a_pod_and_a_service_without_the_exporter(variant: str) -> None:
    """Otherwise an exporter that is not Ready would take the endpoint of the database away."""
    assert [container["name"] for container in pod(variant)["containers"]] == ["postgres"]
    assert [port["port"] for port in find(objects(variant), "Service", "postgres")["spec"]["ports"]] == [5432]


def environment(variant: str) -> dict[str, str]:
    """The variables of the server's container that have a value."""
    [container] = pod(variant)["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def limits(variant: str) -> dict[str, int]:
    """The roles that the server creates, each with its limit of connections; 0 without one."""
    env = environment(variant)
    listed = dict(pair.split(":") for pair in env["POSTGRES_CONNECTION_LIMITS"].split(","))
    names = [pair.split(":")[1] for pair in env["POSTGRES_DATABASES"].split(",")]
    names += [pair.split(":")[0] for pair in env["POSTGRES_ROLES"].split(",")]
    names += [env["POSTGRES_BACKUP_ROLE"]] if "POSTGRES_BACKUP_ROLE" in env else []
    return {name: int(listed.get(name, 0)) for name in names}


def test_every_role_has_a_limit_and_all_together_leave_connections_for_the_superuser(variant: str) -> None:
    """Otherwise one client could lock the others out, and nobody could look at the cause."""
    numbers = limits(variant)
    assert {"airflow", "mlflow", "ledger", "predictor", "monitor"} <= set(numbers)
    assert [name for name, limit in numbers.items() if limit < 1] == []
    [container] = pod(variant)["containers"]
    [most] = [int(word.partition("=")[2]) for word in container["args"] if word.startswith("max_connections=")]
    assert sum(numbers.values()) <= most - 3, "superuser_reserved_connections is 3"


def test_limit_of_the_predictor_has_two_connections_for_every_pod(variant: str) -> None:
    """The log and the metrics of each pod connect for a short time."""
    most = [item["spec"]["maxReplicas"] for item in objects(variant) if item["kind"] == "HorizontalPodAutoscaler"]
    replicas = [*most, find(objects(variant), "Deployment", "fastapi")["spec"].get("replicas", 1)]
    assert limits(variant)["predictor"] >= 2 * (max(replicas) + 1), "one more pod during an update"


def test_exporter_uses_the_role_that_may_read_statistics_only(variant: str) -> None:
    [exporter] = find(objects(variant), "Deployment", "postgres-exporter")["spec"]["template"]["spec"]["containers"]
    assert {entry["name"]: entry.get("value") for entry in exporter["env"]}["DATA_SOURCE_USER"] == "monitor"
    env = environment(variant)
    assert "monitor:pg_monitor" in env["POSTGRES_ROLES"].split(",")
    assert "monitor" not in {pair.split(":")[1] for pair in env["POSTGRES_DATABASES"].split(",")}, "owns a database"


def test_predictor_and_backups_may_connect_to_the_ledger_and_nobody_else_to_any_database(variant: str) -> None:
    env = environment(variant)
    wanted = {"ledger:predictor"} | ({"ledger:backup"} if "POSTGRES_BACKUP_ROLE" in env else set())
    assert set(env["POSTGRES_CLIENTS"].split(",")) == wanted
