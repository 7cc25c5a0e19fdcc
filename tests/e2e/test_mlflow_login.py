"""MLflow on the cluster lets only the pipeline and the administrator move an alias."""

from __future__ import annotations

import httpx
import pytest

from ci.common.kube import JOBS, PLATFORM, secret
from core.stores.registry import RegistryClient
from tests.kit.platform_data import mlflow_login

from .conftest import Fed

pytestmark = pytest.mark.e2e

ALIAS = "/api/2.0/mlflow/registered-models/alias"
NAME = {"name": "house-price", "alias": "champion"}


def predictor_login() -> tuple[str, str]:
    """The login that a program finds that broke into the predictor."""
    return "predictor", secret(PLATFORM, "fastapi")["MLFLOW_TRACKING_PASSWORD"]


def test_alias_moves_only_with_the_login_of_the_pipeline_or_the_administrator(fed: Fed, mlflow: str) -> None:
    version = fed.first.task("promote").result["version"]
    logins = {
        "nobody": None,
        "wrong password": ("admin", "guessed"),
        "predictor": predictor_login(),
        "viewer": mlflow_login("viewer"),
        "pipeline": ("pipeline", secret(JOBS, "pipeline")["MLFLOW_TRACKING_PASSWORD"]),
        "admin": mlflow_login("admin"),
    }
    body = {**NAME, "version": version}  # of the champion itself, so that nothing changes where it is accepted
    moved = {who: httpx.post(f"{mlflow}{ALIAS}", json=body, auth=login, timeout=20) for who, login in logins.items()}
    read = {who: httpx.get(f"{mlflow}{ALIAS}", params=NAME, auth=login, timeout=20) for who, login in logins.items()}
    assert {who: answer.status_code for who, answer in moved.items()} == {
        "nobody": 401, "wrong password": 401, "predictor": 403, "viewer": 403, "pipeline": 200, "admin": 200,
    }  # fmt: skip
    assert {who: answer.status_code for who, answer in read.items()} == {
        "nobody": 401, "wrong password": 401, "predictor": 200, "viewer": 200, "pipeline": 200, "admin": 200,
    }  # fmt: skip
    champion = RegistryClient(mlflow, mlflow_login("viewer")).version_by_alias("house-price", "champion")
    assert champion is not None
    assert champion.version == version
