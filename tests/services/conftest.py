"""Fixtures for real PostgreSQL, MLflow and MinIO servers, which are started once per session."""

from __future__ import annotations

import os

import pytest

from ci.local.processes import LocalPlatform
from tests.services.object_store import Provisioned, provisioned

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the stages, because some tests train in this process


@pytest.fixture(scope="session")
def tracking(local: LocalPlatform) -> LocalPlatform:
    """MLflow on `local`, shared by tests with model names of their own."""
    local.start_mlflow()
    return local


@pytest.fixture(scope="session")
def minio(local: LocalPlatform) -> Provisioned:
    return provisioned(local)
