"""Versions that do not go together are refused before training and before serving."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import mlflow
import pytest

from ci.common.paths import CHECKOUT
from core.errors import BundleError, RegistryError
from core.model.bundle import load_bundle
from core.model.compatibility import MLFLOW, check_libraries, check_mlflow
from core.stores.registry import ModelVersion, RegistryClient


def test_every_lock_has_the_same_version_of_mlflow() -> None:
    assert mlflow.__version__ == MLFLOW
    for lock in (CHECKOUT / "services").glob("*/requirements.lock"):
        versions = set(re.findall(r"^mlflow(?:-skinny)?==(\S+)", lock.read_text(), flags=re.M))
        assert versions <= {MLFLOW}, f"{lock.parent.name} has MLflow {versions}"


@pytest.mark.parametrize(("server", "trains", "serves"), [
    (MLFLOW, True, True), ("3.99.0", False, True), ("2.22.0", False, False), ("4.0.0", False, False),
    ("<html>", False, False),
])  # fmt: skip
def test_training_needs_the_exact_version_and_serving_the_major_version(
    server: str, trains: bool, serves: bool
) -> None:
    for exact, fits in ((True, trains), (False, serves)):
        if fits:
            check_mlflow(server, exact)
        else:
            with pytest.raises(RegistryError, match="deploy images of one release"):
                check_mlflow(server, exact)


def test_nothing_is_downloaded_from_a_server_of_another_major_version(tmp_path: Path) -> None:
    requested: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requested.append(request.url.path)
        return httpx.Response(200, text="2.22.0")

    client = RegistryClient("http://mlflow:5000", transport=httpx.MockTransport(answer))
    with pytest.raises(RegistryError, match=r"MLflow's server is 2\.22\.0, this client"):
        client.download(ModelVersion("m", "1", "r", {}, ""), tmp_path)
    assert requested == ["/version"]


@pytest.mark.parametrize(("writer", "fits"), [
    ("4.7.0", True), ("4.0.0", True), ("4.7.9", True), ("4.99.0", False), ("3.3.5", False), ("5.0.0", False),
])  # fmt: skip
def test_bundle_of_an_incompatible_lightgbm_is_refused_with_both_versions(writer: str, fits: bool) -> None:
    if fits:
        check_libraries({"lightgbm": writer})
    else:
        with pytest.raises(BundleError, match=f"written by LightGBM {re.escape(writer)}, this program has 4"):
            check_libraries({"lightgbm": writer})


def test_bundle_records_the_versions_of_its_libraries(trained: object) -> None:
    folder: Path = trained.folder  # type: ignore[attr-defined]
    assert set(json.loads((folder / "metadata.json").read_text())["libraries"]) >= {"lightgbm", "numpy", "polars"}
    load_bundle(folder)
