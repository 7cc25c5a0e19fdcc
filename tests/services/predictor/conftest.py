"""Small real models, and a registry held in memory that can go wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from core.booster import Booster
from core.bundle import Bundle, baseline, golden_sample, load_bundle, write_bundle
from core.errors import BundleError
from core.features import parse_listings, training_features
from core.registry import ModelVersion
from pipeline.calibration import calibrate, measured
from pipeline.encoded import Part
from predictor.listing import STATES

NAME = "house-price"


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
    broken: Exception | None = None
    broken_download: Exception | None = None
    downloads: list[str] = field(default_factory=list)

    def add(self, model: Model, **tags: str) -> str:
        """Register a model; returns its version, which the alias names from now on."""
        version = str(len(self.versions) + 1)
        tags = {"manifest_sha256": model.sha256} | tags
        self.versions[version] = ModelVersion(NAME, version, f"run-{version}", tags, "")
        self.folders[version] = model.folder
        self.named = version
        return version

    def champion(self, name: str, alias: str) -> ModelVersion | None:
        assert (name, alias) == (NAME, "champion")
        if self.broken:
            raise self.broken
        return self.versions[self.named] if self.named else None

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
def damaged(models: tuple[Model, Model], tmp_path: Path) -> Callable[[Callable[[Path], object]], Model]:
    """A copy of the second model, damaged by a function of its folder after it was registered."""

    def damage(how: Callable[[Path], object]) -> Model:
        folder = tmp_path / "damaged"
        shutil.copytree(models[1].folder, folder)
        how(folder)
        return Model(folder, models[1].sha256, models[1].bundle)

    return damage
