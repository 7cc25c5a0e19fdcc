"""Settings, listings and stand-ins for unit tests of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from core.ledger import Batch
from core.storage import FolderStore
from datasource import synthetic
from pipeline import rows
from pipeline.settings import PipelineSettings


@pytest.fixture
def known() -> PipelineSettings:
    """The stages' settings with their defaults."""
    return PipelineSettings(
        data_api_url="http://127.0.0.1:9",
        data_uri="file:///nowhere",
        ledger_dsn="postgresql://127.0.0.1:9/ledger",
        mlflow_tracking_uri="http://127.0.0.1:9",
    )


@pytest.fixture(scope="session")
def listings() -> pl.DataFrame:
    """2,304 listings of two statuses and all states."""
    return pl.concat([synthetic.generate(number, seed=7, scale=0.01)[0] for number in (0, 2)]).unique(
        maintain_order=True
    )


class OneBatch:
    """A ledger of one stored batch, which keeps what it is told."""

    def __init__(self, rows: int, key: str) -> None:
        self.told: dict[str, Any] = {}
        self._batch = Batch(0, "ab" * 32, "stored", rows, None, None, None, key)

    def batch(self, number: int) -> Batch:
        assert number == 0
        return self._batch

    def set_validated(self, _: Batch, valid: int, quarantine: dict[str, int]) -> None:
        self.told = {"valid": valid, "quarantine": quarantine}

    def set_split(self, _: Batch) -> None:
        self.told = {"split": True}

    def refuse(self, _: Batch, reason: str) -> None:
        self.told = {"refused": reason}


class StageContext:
    """A context with one stored batch."""

    def __init__(self, folder: Path, raw: pl.DataFrame) -> None:
        self.store = FolderStore(folder)
        rows.write(self.store, "raw/0", raw)
        self.ledger = OneBatch(raw.height, "raw/0")
