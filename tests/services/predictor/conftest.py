"""Two small real models, and a registry in memory whose calls can fail."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient

import predictor.assembly
from ci.local.processes import LocalPlatform
from core.errors import BundleError
from core.stores.registry import ModelVersion
from predictor.assembly import create_app
from predictor.settings import PredictorSettings
from tests.kit.local_predictor import NAME, NOWHERE, keep_in
from tests.kit.small_models import Model, train

ORIGIN = {"commit": "c" * 40, "image_tag": "0.1.0-0123456789ab", "image_digest": "sha256:" + "d" * 64}

SETTINGS = PredictorSettings(
    model_name="house-price",
    model_alias="champion",
    mlflow_tracking_uri=NOWHERE,
    ledger_dsn="postgresql://127.0.0.1:9/ledger",
    poll_seconds=0.05,
    max_listings=100,
    max_body_bytes=102_400,
    prediction_log=False,  # has its own tests
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """Two models with different prices."""
    folder = tmp_path_factory.mktemp("models")
    return train(folder / "1" / "bundle", 10), train(folder / "2" / "bundle", 40)


def keep_on_disk(local: LocalPlatform, model: Model) -> None:
    """Give the next predictor of a platform a model that served last, so that it needs no MLflow."""
    keep_in(local.folder / "bundles", model)
    local.mlflow_url = NOWHERE


@dataclass
class Registry:
    """Has the methods of `core.stores.registry.RegistryClient`."""

    versions: dict[str, ModelVersion] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    named: str | None = None
    challenger: str | None = None
    broken: Exception | None = None
    broken_download: Exception | None = None
    downloads: list[str] = field(default_factory=list)

    def add(self, model: Model, alias: Literal["champion", "challenger"] = "champion", **tags: str) -> str:
        """Register a model as a new version and set the alias to it. Returns the version."""
        version = str(len(self.versions) + 1)
        tags = {"manifest_sha256": model.sha256} | tags
        self.versions[version] = ModelVersion(NAME, version, f"run-{version}", tags, "")
        self.folders[version] = model.folder
        if alias == "champion":
            self.named = version
        else:
            self.challenger = version
        return version

    def version_by_alias(self, name: str, alias: str) -> ModelVersion | None:
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
            raise BundleError(f"the bundle has more than {max_bytes} bytes")
        shutil.copytree(self.folders[version.version], directory, dirs_exist_ok=True)
        os.utime(directory)  # a download is new, however old the model is


def trusted(_: ModelVersion) -> None:
    """A ledger that has the hash of every version."""


@pytest.fixture(autouse=True)
def ledger_that_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service within the process of the test trusts every version. `test_trust.py` has the checks."""
    for name in ("champion_check", "trained_check"):
        monkeypatch.setattr(predictor.assembly, name, lambda _: trusted)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def empty(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The service with a registry that has no champion."""
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)  # has its own tests
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
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)


@pytest.fixture
def damaged(models: tuple[Model, Model], tmp_path: Path) -> Callable[[Callable[[Path], object]], Model]:
    """Makes a copy of the second model that a function damages after its registration."""

    def damage(change: Callable[[Path], object]) -> Model:
        folder = tmp_path / "damaged"
        shutil.copytree(models[1].folder, folder)
        change(folder)
        return Model(folder, models[1].sha256, models[1].bundle)

    return damage


def worker_of(platform: LocalPlatform) -> int:
    """Process id of the worker of the predictor."""
    master = platform.pid("predictor")
    return int(Path(f"/proc/{master}/task/{master}/children").read_text().split()[0])
