"""The DAGs in real Airflow, with the environment that the chart sets in the Airflow containers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci.common.paths import CHECKOUT

if TYPE_CHECKING:
    from airflow.sdk import DAG

COMMIT, DIGEST = "c" * 40, "sha256:" + "0" * 64
DAGS = CHECKOUT / "services" / "airflow" / "dags"

HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")

# Airflow reads its configuration at its first import, so this must run before any test imports it.
ENVIRONMENT = {
    "AIRFLOW_HOME": HOME.name,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "PIPELINE_IMAGE": "localhost/house-platform/pipeline:0.1.0-3f2a91bc77de@" + DIGEST,
    "PIPELINE_COMMIT": COMMIT,
    "PIPELINE_PLACEMENT": "{}",
    "PIPELINE_NAMESPACE": "mlops-jobs",
    "PIPELINE_ENV_CONFIGMAP": "pipeline",
    "PIPELINE_ENV_SECRET": "pipeline",
    "PIPELINE_SCHEDULE": "",
}
os.environ.update(ENVIRONMENT)


@pytest.fixture(scope="session")
def dags() -> dict[str, DAG]:
    """Every DAG of the folder, parsed as by the DAG processor."""
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(dag_folder=DAGS, bundle_path=Path(DAGS), bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture(scope="session")
def pipeline_dag(dags: dict[str, DAG]) -> DAG:
    return dags["house_price_pipeline"]
