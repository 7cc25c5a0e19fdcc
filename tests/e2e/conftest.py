"""Installs the platform on the current cluster and runs the pipeline on two batches. The tests share the result.

If HOUSE_RECORDING_DIR is set and the cluster is kind, the listings are the recorded batches 0 and 3. A data source on
this machine serves them, outside the cluster like the real one. Otherwise the listings are the synthetic batches 0 and
3 of the data source in the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.cluster.choice import choose
from ci.common.console import Failure, say, wait_for
from ci.common.kube import PLATFORM, forward
from ci.deploy import platform, runs, workloads
from ci.deploy.runs import RunResult
from tests.kit import local_datasource


@dataclass(frozen=True)
class Fed:
    """The results of the first two runs: batch 0, then batch 3."""

    recorded: bool
    first: RunResult
    second: RunResult


@pytest.fixture(scope="session")
def recorded() -> bool:
    """True if the listings are recorded ones."""
    return bool(os.environ.get("HOUSE_RECORDING_DIR")) and choose().name == "kind"


@pytest.fixture(scope="session")
def installed(recorded: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Install the umbrella chart; every component except the predictor is Ready. Yields the extra values."""
    values = local_datasource.values() if recorded else [r"datasource.config.batches=0\,3"]
    values.append("fastapi.config.pollSeconds=1")  # up to a hundred bad models are promoted one after another
    values += ["fastapi.batch.enabled=true", "minio.buckets.batch.user=batch", "minio.buckets.batch.versioned=false"]
    values.append("fastapi.batch.schedule=0 0 29 2 *")  # practically never: a test starts the job
    values.append("fastapi.config.shadowShare=1")
    with local_datasource.serving(tmp_path_factory.mktemp("datasource"), "0,3") if recorded else nullcontext():
        platform.install("kind", values)
        workloads.wait_ready()
        yield values


@pytest.fixture(scope="session")
def fed(installed: list[str], recorded: bool) -> Fed:
    """Run the DAG twice, once for each batch, and once more to the end of the data.

    The data source has no batches 1 and 2. The first run that notices this fails and names them; later ones do not.
    """
    with runs.airflow() as client:
        say("batch 0")
        first = runs.run_once(client)
        say("batch 3")
        second = runs.run_once(client)
        say("the end of the data")
        with pytest.raises(Failure, match=r"batches \[1, 2\] never arrived"):
            runs.run_once(client)
    return Fed(recorded, first, second)


@pytest.fixture(scope="session")
def predictor(fed: Fed) -> Iterator[str]:
    """URL of the predictor's Service."""
    wait_for("the predictor", lambda: "deployment/fastapi" not in workloads.late_workloads(), 120, every=1)
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow(fed: Fed) -> Iterator[str]:
    """URL of MLflow's Service."""
    with forward(PLATFORM, "service/mlflow", 5000) as url:
        yield url


@pytest.hookimpl(trylast=True)  # after pytest's own order by parameters of fixtures
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests: charts alone, memory of the idle platform, other tests, pages, Ingresses, and last the nodes.

    The tests of the pages in a browser are in another folder and use the same platform. Other folders come first.
    """
    order = {"test_alone.py": 1, "test_idle.py": 2, "test_pages.py": 4, "test_ingress.py": 5, "test_nodes.py": 6}
    here = Path(__file__).parent
    ours = (here, here.parent / "pages")
    items.sort(key=lambda item: order.get(item.path.name, 3) if item.path.parent in ours else 0)
