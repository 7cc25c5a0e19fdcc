"""Versions that do not go together are a sentence, before anything is trained or served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import mlflow
import pytest

from ci.paths import CHECKOUT
from core.bundle import load_bundle
from core.compatibility import MLFLOW, check_libraries, check_mlflow
from core.errors import BundleError, RegistryError
from core.registry import ModelVersion, RegistryClient


def test_one_version_of_mlflow_is_in_every_lock() -> None:
    assert mlflow.__version__ == MLFLOW
    for lock in (CHECKOUT / "services").glob("*/requirements.lock"):
        found = set(re.findall(r"^mlflow(?:-skinny)?==(\S+)", lock.read_text(), flags=re.M))
        assert found <= {MLFLOW}, f"{lock.parent.name} has MLflow {found}"


@pytest.mark.parametrize(("served", "trains", "serves"), [
    (MLFLOW, True, True), ("3.99.0", False, True), ("2.22.0", False, False), ("4.0.0", False, False),
    ("<html>", False, False),
])  # fmt: skip
def test_training_needs_the_same_server_and_serving_one_of_its_major_version(
    served: str, trains: bool, serves: bool
) -> None:
    for exact, fits in ((True, trains), (False, serves)):
        if fits:
            check_mlflow(served, exact)
        else:
            with pytest.raises(RegistryError, match="deploy images of one release"):
                check_mlflow(served, exact)


def test_nothing_is_downloaded_from_a_server_of_another_version(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, text="2.22.0")

    client = RegistryClient("http://mlflow:5000", transport=httpx.MockTransport(answer))
    with pytest.raises(RegistryError, match=r"MLflow's server is 2\.22\.0, this client"):
        client.download(ModelVersion("m", "1", "r", {}, ""), tmp_path)
    assert asked == ["/version"]


@pytest.mark.parametrize(("wrote", "fits"), [
    ("4.7.0", True), ("4.0.0", True), ("4.7.9", True), ("4.99.0", False), ("3.3.5", False), ("5.0.0", False),
])  # fmt: skip
def test_bundle_of_another_lightgbm_is_refused_with_both_versions(wrote: str, fits: bool) -> None:
    if fits:
        check_libraries({"lightgbm": wrote})
    else:
        with pytest.raises(BundleError, match=f"written by LightGBM {re.escape(wrote)}, this program has 4"):
            check_libraries({"lightgbm": wrote})


def test_bundle_carries_the_versions_that_it_needs(trained: object) -> None:
    folder: Path = trained.folder  # type: ignore[attr-defined]
    assert set(json.loads((folder / "metadata.json").read_text())["libraries"]) >= {"lightgbm", "numpy", "polars"}
    load_bundle(folder)
