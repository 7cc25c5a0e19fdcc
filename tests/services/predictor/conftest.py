"""Small real models, and a registry held in memory that can go wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightgbm
import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import predictor.assembly
from core.booster import Booster
from core.bundle import Bundle, baseline, golden_sample, load_bundle, write_bundle
from core.errors import BundleError
from core.features import parse_listings, training_features
from core.registry import ModelVersion
from pipeline.calibration import calibrate, measured
from pipeline.encoded import Part
from predictor.assembly import create_app
from predictor.listing import STATES
from predictor.settings import PredictorSettings

NAME = "house-price"
NOWHERE = "http://127.0.0.1:9"
ORIGIN = {"commit": "c" * 40, "image_tag": "0.1.0-0123456789ab", "image_digest": "sha256:" + "d" * 64}

SETTINGS = PredictorSettings(
    model_name="house-price",
    model_alias="champion",
    mlflow_tracking_uri=NOWHERE,
    ledger_dsn="postgresql://127.0.0.1:9/ledger",
    poll_seconds=0.05,
    max_listings=100,
    max_body_bytes=102_400,
    prediction_log=False,  # it has tests of its own
)


def listings(rows: int = 400) -> pl.DataFrame:
    """Listings whose price follows size and state."""
    draw = np.random.default_rng(7)
    size, state = draw.integers(500, 4000, rows), draw.integers(0, 8, rows)
    return parse_listings(
        [
            {
                "status": "for_sale",
                "price": 100.0 * size[i] * (1 + 0.1 * state[i]),
                "bed": int(draw.integers(1, 6)),
                "bath": int(draw.integers(1, 4)),
                "acre_lot": 0.25,
                "house_size": int(size[i]),
                "state": STATES[state[i]],
                "city": f"City {state[i]}",
                "zip_code": f"{state[i] * 1000 + 1:05}",
                "brokered_by": i % 20,
                "street": i,
                "prev_sold_date": f"20{i % 20:02}-05-17",
            }
            for i in range(rows)
        ]
    )


@dataclass(frozen=True)
class Model:
    """A bundle on disk and the sha256 of its manifest."""

    folder: Path
    sha256: str
    bundle: Bundle


def train(folder: Path, rounds: int) -> Model:
    rows = listings()
    matrix, encodings = training_features(rows)
    data = lightgbm.Dataset(matrix, np.log(rows["price"].to_numpy()) - baseline(matrix))
    booster = lightgbm.train({"objective": "regression", "num_leaves": 15, "verbose": -1, "seed": 1}, data, rounds)
    text = booster.model_to_string()
    ranges = calibrate(Booster(text), encodings, measured([Part.of(rows)]))
    sha256 = write_bundle(folder, text, encodings, golden_sample(rows), ranges)
    return Model(folder, sha256, load_bundle(folder))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """Two models that give different prices."""
    folder = tmp_path_factory.mktemp("models")
    return train(folder / "1" / "bundle", 10), train(folder / "2" / "bundle", 40)


@dataclass
class Registry:
    """Answers as `core.registry.RegistryClient` does."""

    versions: dict[str, ModelVersion] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    named: str | None = None
    challenger: str | None = None
    broken: Exception | None = None
    broken_download: Exception | None = None
    downloads: list[str] = field(default_factory=list)

    def add(self, model: Model, alias: Literal["champion", "challenger"] = "champion", **tags: str) -> str:
        """Register a model; returns its version, which the alias names from now on, and no other alias ever did."""
        version = str(len(self.versions) + 1)
        tags = {"manifest_sha256": model.sha256} | tags
        self.versions[version] = ModelVersion(NAME, version, f"run-{version}", tags, "")
        self.folders[version] = model.folder
        if alias == "champion":
            self.named = version
        else:
            self.challenger = version
        return version

    def champion(self, name: str, alias: str) -> ModelVersion | None:
        assert name == NAME
        if self.broken:
            raise self.broken
        named = {"champion": self.named, "challenger": self.challenger}[alias]
        return self.versions[named] if named else None

    def version(self, name: str, version: str) -> ModelVersion | None:
        assert name == NAME
        return self.versions.get(version)

    def download(self, version: ModelVersion, directory: Path, max_bytes: int | None = None) -> None:
        self.downloads.append(version.version)
        if self.broken_download:
            raise self.broken_download
        if max_bytes and sum(path.stat().st_size for path in self.folders[version.version].iterdir()) > max_bytes:
            raise BundleError(f"it has more than {max_bytes} bytes")
        shutil.copytree(self.folders[version.version], directory, dirs_exist_ok=True)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def empty(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The service over a registry that names no champion."""
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_trial", lambda *_, **__: None)  # trials have tests of their own
    settings = SETTINGS.model_copy(update={"bundle_dir": tmp_path / "bundles", **ORIGIN})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(empty: TestClient, registry: Registry, models: tuple[Model, Model]) -> TestClient:
    """The service with a model."""
    registry.add(models[0])
    until(lambda: empty.get("/health/ready").status_code == 200)
    return empty


def until(ready: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)


@pytest.fixture
def damaged(models: tuple[Model, Model], tmp_path: Path) -> Callable[[Callable[[Path], object]], Model]:
    """A copy of the second model, damaged by a function of its folder after it was registered."""

    def damage(how: Callable[[Path], object]) -> Model:
        folder = tmp_path / "damaged"
        shutil.copytree(models[1].folder, folder)
        how(folder)
        return Model(folder, models[1].sha256, models[1].bundle)

    return damage
