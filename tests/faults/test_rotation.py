"""Every Secret gets new values while clients ask for prices. No request fails, and the next run is green."""

from __future__ import annotations

import time

import httpx
import pytest

from ci.common.console import say
from ci.common.kube import JOBS, PLATFORM, forward, kube, secret
from ci.deploy import platform, rotate, runs, workloads
from ci.deploy.secrets import Name, generate
from tests.kit.clients import Clients

pytestmark = pytest.mark.e2e

BATCHES = "0\\,1\\,2"


@pytest.fixture(scope="module", autouse=True)
def champion() -> None:
    """A freshly installed platform with a champion."""
    platform.remove()
    platform.install("kind", [f"datasource.config.batches={BATCHES}"])
    workloads.wait_ready()
    with runs.airflow() as client:
        runs.run_once(client)
    kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)


def stored() -> dict[Name, dict[str, str]]:
    """The values of every Secret."""
    return {name: secret(*name) for name in generate(PLATFORM, JOBS)}


def test_every_secret_is_rotated_under_load_and_the_next_run_is_green() -> None:
    before, seconds = stored(), {}
    with Clients(threads=8, pause=0.01) as clients:
        for name in rotate.ROTATIONS:
            began = time.monotonic()
            rotate.rotate(name)
            seconds[name] = round(time.monotonic() - began)
        answered = sum(clients.answered.values())
    say(f"seconds: {seconds}; clients: {clients}")
    assert answered > 1_000
    assert clients.failures == []
    after = stored()
    kept = {
        (name, key) for name, values in before.items() for key, value in values.items() if after[name][key] == value
    }
    assert kept == {((PLATFORM, "grafana"), "admin-user")}
    workloads.wait_ready()
    with runs.airflow() as client:  # logs in with the new password
        ended = runs.run_once(client)
    assert ended.task("report").summary
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        assert httpx.get(f"{url}/history", timeout=30).status_code == 200, "the ledger refuses the predictor"


def test_earlier_passwords_are_refused(champion: None) -> None:
    before = stored()
    for name in ("pipeline", "postgres"):
        rotate.rotate(name)
    for role, password in (
        ("ledger", before[PLATFORM, "postgres"]["LEDGER_PASSWORD"]),
        ("monitor", before[PLATFORM, "postgres"]["MONITOR_PASSWORD"]),
    ):
        words = [
            "env",
            f"PGPASSWORD={password}",
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            role,
            "-d",
            "ledger",
            "-c",
            "select 1",
        ]
        output = kube(
            "-n", PLATFORM, "exec", "postgres-0", "-c", "postgres", "--", "sh", "-c", '"$@" 2>&1 || true', "sh", *words
        )
        assert "password authentication failed" in output, output


def test_installation_again_changes_nothing_after_a_rotation(champion: None) -> None:
    assert platform.install("kind", [f"datasource.config.batches={BATCHES}"]) is False, "a rotation left a difference"
