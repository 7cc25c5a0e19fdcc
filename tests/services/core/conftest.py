"""A small real model on synthetic listings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from core.booster import Booster
from core.bundle import baseline, golden_sample, write_bundle
from core.features import training_features
from datasource import synthetic
from pipeline.calibration import calibrate, measured
from pipeline.encoded import Part


@dataclass(frozen=True)
class Trained:
    """A model as LightGBM holds it, and the bundle that was written of it."""

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
    ranges = calibrate(Booster(text), encodings, measured([Part.of(rows)]))
    sha256 = write_bundle(folder, text, encodings, golden_sample(rows), ranges)
    return Trained(booster, matrix, rows, folder, sha256)
