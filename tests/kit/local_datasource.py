"""A data source on this machine, outside the cluster like the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.cluster import docker
from ci.cluster.containers import machine_address
from ci.common.console import wait_for
from ci.local.processes import answers

DATA_PORT = 8099


def url() -> str:
    """URL of the data source, at the address of this machine that pods of the kind cluster reach."""
    return f"http://{machine_address(docker.choose())}:{DATA_PORT}"


def values() -> list[str]:
    """Chart values that point the pipeline to this data source."""
    address = machine_address(docker.choose())
    return [
        f"airflow.pipeline.config.dataApiUrl={url()}",
        f"global.dataApi.cidr={address}/32",
        f"global.dataApi.port={DATA_PORT}",
    ]


@contextmanager
def serving(folder: Path, batches: str, **settings: str) -> Iterator[None]:
    """Serve these batches: recorded ones if the environment or `settings` has HOUSE_RECORDING_DIR, else synthetic."""
    address = machine_address(docker.choose())
    assert not answers(f"{url()}/health"), f"another server answers at {url()}, with other batches: end it first"
    env = {**os.environ, "LATENCY_SCALE": "0", "BATCHES": batches, "ADMIN_ENABLED": "true"} | settings
    command = [sys.executable, "-m", "gunicorn", "-c", "python:datasource.gunicorn_conf"]
    command += ["--bind", f"{address}:{DATA_PORT}", "datasource.app:app"]
    with (folder / "datasource.log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_for("the data source", lambda: answers(f"{url()}/health"), 60)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
