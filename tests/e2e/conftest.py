"""The platform on the present cluster, installed and fed; every test here reads it or does one thing to it.

Listings are the recorded batches 0 and 3, served by a data source on this machine's own address as the real one would
be, where HOUSE_RECORDING_DIR is set and the cluster's pods reach this machine (the one-node cluster); elsewhere the
synthetic batches 0 and 3 of the data source in the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import pytest

from ci import platform, runs
from ci.console import say, wait_for
from ci.kube import PLATFORM, forward, kubeconfig
from ci.runs import RunResult

from . import datasource


@dataclass(frozen=True)
class Fed:
    """The platform after its first runs: batch 0, then batch 3."""

    recorded: bool
    first: RunResult
    second: RunResult


@pytest.fixture(scope="session")
def recorded() -> bool:
    """True if recorded listings are fed."""
    return bool(os.environ.get("HOUSE_RECORDING_DIR")) and kubeconfig() is not None


@pytest.fixture(scope="session")
def installed(recorded: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The umbrella chart installed with every component Ready but the predictor; yields the extra values."""
    values = datasource.values() if recorded else [r"datasource.config.batches=0\,3"]
    values.append("fastapi.config.pollSeconds=1")  # a hundred bad models are promoted one after another
    values += ["fastapi.batch.enabled=true", "minio.buckets.batch.user=batch", "minio.buckets.batch.versioned=false"]
    values.append("fastapi.batch.schedule=0 0 29 2 *")  # by hand
    values.append("fastapi.config.shadowShare=1")
    with datasource.serving(tmp_path_factory.mktemp("datasource"), "0,3") if recorded else nullcontext():
        platform.install("kind", values)
        platform.wait_ready()
        yield values


@pytest.fixture(scope="session")
def fed(installed: list[str], recorded: bool) -> Fed:
    """Two runs of the DAG, one for each batch that the data source has."""
    with runs.airflow() as client:
        say("batch 0")
        first = runs.run_once(client)
        say("batch 3")
        second = runs.run_once(client)
    return Fed(recorded, first, second)


@pytest.fixture(scope="session")
def predictor(fed: Fed) -> Iterator[str]:
    """URL of the predictor's Service."""
    wait_for("the predictor", lambda: "deployment/fastapi" not in platform.late_workloads(), 120, every=1)
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow(fed: Fed) -> Iterator[str]:
    """URL of MLflow's Service."""
    with forward(PLATFORM, "service/mlflow", 5000) as url:
        yield url
