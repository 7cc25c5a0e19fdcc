"""Settings, listings and fakes for unit tests of the stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import polars as pl
import pytest

from ci.local.processes import LocalPlatform
from core.ledger import Batch
from core.stores.objects import FolderStore
from datasource import synthetic
from pipeline import rows
from pipeline.settings import PipelineSettings
from tests.kit.world import HTTP
from tests.services.conftest import Provisioned
from tests.services.ledgers import new_ledger
from tests.services.pipeline.loop import SCALE, Loop

# MLflow's client looks for them before each request, and a search for a module that does not exist takes milliseconds.
for absent in ("IPython", "dbruntime", "pyspark"):
    if find_spec(absent) is None:
        sys.modules[absent] = None  # type: ignore[assignment]

SETTINGS = PipelineSettings(
    data_api_url="http://127.0.0.1:9",
    data_uri="file:///nowhere",
    ledger_dsn="postgresql://127.0.0.1:9/ledger",
    mlflow_tracking_uri="http://127.0.0.1:9",
    component_wait_seconds=0,
)


@pytest.fixture
def pipeline_settings() -> PipelineSettings:
    """Settings of the stages, with their defaults."""
    return SETTINGS


@pytest.fixture(scope="session")
def listings() -> pl.DataFrame:
    """2,304 listings with two statuses and all states."""
    return pl.concat([synthetic.generate(number, seed=7, scale=0.01)[0] for number in (0, 2)]).unique(
        maintain_order=True
    )


class Batches:
    """A fake ledger of stored batches. `recorded` holds the values of the last call."""

    def __init__(self) -> None:
        self.recorded: dict[str, Any] = {}
        self._batches: dict[int, Batch] = {}

    def add(self, number: int, rows: int, key: str) -> None:
        self._batches[number] = Batch(number, "ab" * 32, "stored", rows, None, None, None, None, key)

    def batch(self, number: int) -> Batch:
        return self._batches[number]

    def set_validated(self, _: Batch, valid: int, duplicates: int, quarantine: dict[str, int]) -> None:
        self.recorded = {"valid": valid, "duplicates": duplicates, "quarantine": quarantine}

    def set_split(self, _: Batch) -> None:
        self.recorded = {"split": True}

    def refuse(self, _: Batch, reason: str) -> None:
        self.recorded = {"refused": reason}


class StageContext:
    """A fake context, with one stored batch at first."""

    settings = SETTINGS

    def __init__(self, folder: Path, raw: pl.DataFrame) -> None:
        self.store = FolderStore(folder)
        self.ledger = Batches()
        self.add(0, raw)

    def add(self, number: int, raw: pl.DataFrame) -> None:
        rows.write(self.store, f"raw/{number}", raw)
        self.ledger.add(number, raw.height, f"raw/{number}")


@pytest.fixture(scope="module")
def platform(tracking: LocalPlatform) -> Iterator[LocalPlatform]:
    """The MLflow server of all modules, and a data source of this module."""
    tracking.start_datasource(scale=str(SCALE), latency_scale="0", admin_enabled="true", house_recording_dir="")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")  # same as for stages in their own process
        environment.setenv("MLFLOW_EXPERIMENT_ID", "")
        environment.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        yield tracking
        mlflow.set_tracking_uri("")
    tracking.stop("datasource")


@pytest.fixture
def loop(platform: LocalPlatform, minio: Provisioned, request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop for one test. Its faults are removed afterwards."""
    name = f"loop-{abs(hash(request.node.nodeid))}"
    new_ledger(platform, name)
    yield Loop(platform, minio, name)
    HTTP.delete(f"{platform.datasource_url}/admin/faults").raise_for_status()
