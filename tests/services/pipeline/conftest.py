"""Settings, listings and stand-ins for unit tests of the stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import polars as pl
import pytest

from ci.local import LocalPlatform
from core.ledger import Batch
from core.storage import FolderStore
from datasource import synthetic
from pipeline import rows
from pipeline.settings import PipelineSettings
from tests.services.conftest import Provisioned
from tests.services.pipeline.loop import SCALE, Loop

SETTINGS = PipelineSettings(
    data_api_url="http://127.0.0.1:9",
    data_uri="file:///nowhere",
    ledger_dsn="postgresql://127.0.0.1:9/ledger",
    mlflow_tracking_uri="http://127.0.0.1:9",
)


@pytest.fixture
def known() -> PipelineSettings:
    """The stages' settings with their defaults."""
    return SETTINGS


@pytest.fixture(scope="session")
def listings() -> pl.DataFrame:
    """2,304 listings of two statuses and all states."""
    return pl.concat([synthetic.generate(number, seed=7, scale=0.01)[0] for number in (0, 2)]).unique(
        maintain_order=True
    )


class Batches:
    """A ledger of stored batches, which keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self._batches: dict[int, Batch] = {}

    def add(self, number: int, rows: int, key: str) -> None:
        self._batches[number] = Batch(number, "ab" * 32, "stored", rows, None, None, None, None, key)

    def batch(self, number: int) -> Batch:
        return self._batches[number]

    def set_validated(self, _: Batch, valid: int, duplicates: int, quarantine: dict[str, int]) -> None:
        self.told = {"valid": valid, "duplicates": duplicates, "quarantine": quarantine}

    def set_split(self, _: Batch) -> None:
        self.told = {"split": True}

    def refuse(self, _: Batch, reason: str) -> None:
        self.told = {"refused": reason}


class StageContext:
    """A context with stored batches, at first with one."""

    settings = SETTINGS

    def __init__(self, folder: Path, raw: pl.DataFrame) -> None:
        self.store = FolderStore(folder)
        self.ledger = Batches()
        self.add(0, raw)

    def add(self, number: int, raw: pl.DataFrame) -> None:
        rows.write(self.store, f"raw/{number}", raw)
        self.ledger.add(number, raw.height, f"raw/{number}")


@pytest.fixture(scope="module")
def platform(local: LocalPlatform) -> Iterator[LocalPlatform]:
    """MLflow and a data source, for the loops of one module."""
    local.start_mlflow()
    local.start_datasource(scale=str(SCALE), latency_scale="0", admin_enabled="true", house_recording_dir="")
    with pytest.MonkeyPatch.context() as left_as_found:
        left_as_found.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")  # as for stages that are processes
        left_as_found.setenv("MLFLOW_EXPERIMENT_ID", "")
        left_as_found.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        yield local
        mlflow.set_tracking_uri("")
    for name in ("datasource", "mlflow"):
        local.stop(name)


@pytest.fixture
def loop(platform: LocalPlatform, minio: Provisioned, request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop of this test alone; its faults end with it."""
    yield Loop(platform, minio, f"loop-{abs(hash(request.node.nodeid))}")
    httpx.delete(f"{platform.datasource_url}/admin/faults").raise_for_status()
