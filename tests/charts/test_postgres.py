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
