"""A data source on this machine's own address, as the real one is outside the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.console import wait_for
from ci.kube import api_endpoint
from ci.local import answers

DATA_PORT = 8099


def values() -> list[str]:
    """Values that point the pipeline there; only the one-node cluster's pods reach it."""
    address, _ = api_endpoint()
    return [
        f"airflow.pipeline.config.dataApiUrl=http://{address}:{DATA_PORT}",
        f"global.dataApi.cidr={address}/32",
        f"global.dataApi.port={DATA_PORT}",
    ]


@contextmanager
def serving(folder: Path, batches: str, **settings: str) -> Iterator[None]:
    """Serve these batches: recorded ones where HOUSE_RECORDING_DIR is set (here or by `settings`), else synthetic."""
    address, _ = api_endpoint()
    env = {**os.environ, "LATENCY_SCALE": "0", "BATCHES": batches, "ADMIN_ENABLED": "true"} | settings
    command = [sys.executable, "-m", "gunicorn", "-c", "python:datasource.gunicorn_conf"]
    command += ["--bind", f"{address}:{DATA_PORT}", "datasource.app:app"]
    with (folder / "datasource.log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_for("the data source", lambda: answers(f"http://{address}:{DATA_PORT}/health"), 60)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
