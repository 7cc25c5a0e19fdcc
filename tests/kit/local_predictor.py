"""A predictor on this machine with a small model and a ledger, but without MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from core.stores.registry import ModelVersion
from predictor.serving.cache import BundleCache
from tests.kit.small_models import Model

NAME = "house-price"
NOWHERE = "http://127.0.0.1:9"


def keep_in(folder: Path, model: Model) -> None:
    """Put a model that served last into a folder, for a predictor with this `BUNDLE_DIR`."""
    cache = BundleCache(folder)
    version = ModelVersion(NAME, "1", "run-1", {"manifest_sha256": model.sha256}, "")
    with cache.draft() as draft:
        shutil.copytree(model.folder, draft / "bundle")
        cache.keep(version, draft / "bundle")
    cache.add_served(version)


@contextmanager
def serving(local: LocalPlatform, model: Model, folder: Path, dsn: str, **settings: str) -> Iterator[str]:
    """Run a predictor with a model and a ledger, but without MLflow; yields its URL. Its files are in `folder`."""
    keep_in(folder / "bundles", model)
    url = local.start_predictor(
        mlflow_tracking_uri=NOWHERE,
        ledger_dsn=dsn,
        bundle_dir=str(folder / "bundles"),
        prediction_log_dir=str(folder / "predictions"),
        poll_seconds="3600",
        **settings,
    )
    wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 30)
    yield url
    local.stop("predictor")
