"""The program of the CronJob airflow-clean, with a real PostgreSQL and a fake `airflow` that prints its arguments."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform

pytestmark = pytest.mark.services

CLEAN = CHECKOUT / "charts" / "airflow" / "files" / "clean.py"
PYTHON = CHECKOUT / "build" / "dags-venv" / "bin" / "python"  # has the packages of Airflow's image
Clean = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    return local.database(f"airflow-{abs(hash(request.node.nodeid))}")


@pytest.fixture
def clean(dsn: str, tmp_path: Path) -> Clean:
    """Runs the program; `code` is the exit code of `airflow`."""

    def run(code: int = 0) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "airflow"
        program.write_text(f'#!/bin/sh\necho "airflow $*"\nexit {code}\n')
        program.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("postgresql://", "postgresql+psycopg2://"),
            "KEEP_DAYS": "90",
        }
        return subprocess.run(
            [str(PYTHON), str(CLEAN)], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_rows_before_the_kept_days_are_deleted_without_a_copy(clean: Clean) -> None:
    for _ in range(2):
        done = clean()
        assert done.returncode == 0, done.stderr
        [command] = [line.split() for line in done.stdout.splitlines() if line.startswith("airflow ")]
        before = datetime.fromisoformat(command[command.index("--clean-before-timestamp") + 1])
        assert abs(datetime.now(UTC) - timedelta(days=90) - before) < timedelta(minutes=5)
        assert {"--skip-archive", "--yes", "--error-on-cleanup-failure"} <= set(command)


def test_clock_that_jumps_forward_deletes_nothing_until_a_person_confirms_it(clean: Clean, dsn: str) -> None:
    assert clean().returncode == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("update retention_clock set seen_at = now() - interval '90 days'")
    for _ in range(2):
        done = clean()
        assert done.returncode != 0
        assert "airflow " not in done.stdout
        assert "Nothing was deleted, because the clock may be wrong" in done.stderr
    with psycopg.connect(dsn) as connection:
        connection.execute(done.stderr.partition("database airflow: ")[2].strip())
    assert clean().returncode == 0


def test_failed_deletion_fails_the_job(clean: Clean) -> None:
    assert clean(code=1).returncode != 0
