"""A small model, trained on synthetic listings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from core.features.training import training_features
from core.model.booster import Booster
from core.model.bundle import golden_sample, write_bundle
from core.model.estimates import baseline
from core.model.sales import sales_table
from datasource import synthetic
from pipeline.training.calibration import calibrate
from pipeline.training.encoded import Part


@dataclass(frozen=True)
class Trained:
    """A LightGBM model and its bundle."""

    booster: lightgbm.Booster
    matrix: np.ndarray
    rows: pl.DataFrame
    folder: Path
    sha256: str  # of the manifest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    rows = synthetic.generate(4, seed=7, scale=0.008)[0]
    matrix, encodings = training_features(rows)
    data = lightgbm.Dataset(matrix, np.log(rows["price"].to_numpy()) - baseline(matrix))
    booster = lightgbm.train({"objective": "regression", "num_leaves": 31, "verbose": -1, "num_threads": 2}, data, 30)
    folder = tmp_path_factory.mktemp("bundle")
    text = booster.model_to_string()
    intervals = calibrate(Booster(text), encodings, [Part.of(rows)])
    sales = sales_table(rows)
    sha256 = write_bundle(folder, text, encodings, golden_sample(rows), intervals, sales)
    return Trained(booster, matrix, rows, folder, sha256)
