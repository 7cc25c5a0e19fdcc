"""The model that all servers serve, and the rows of the requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.features.columns import TARGET
from core.features.matrix import build_features
from core.listing.schema import RAW_SCHEMA
from core.model.bundle import load_bundle
from core.stores.registry import ModelVersion
from datasource import synthetic
from datasource.settings import DatasourceSettings
from pipeline.settings import PipelineSettings
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows
from predictor.serving.cache import BundleCache

MANY = 10_000  # listings per request
_BATCH, _SCALE = 0, 1.5  # synthetic batch and scale, with enough test rows
_TRAIN_ROWS = 20_000


@dataclass(frozen=True)
class Rows:
    """Listings with their features and expected answers."""

    listings: list[dict[str, Any]]
    matrix: np.ndarray  # float32, (rows, features), without NaN: JSON has none, and some peers refuse null
    outputs: np.ndarray  # float64, (rows,): output of the trees, the expected answer of the peers
    prices: np.ndarray  # float64, (rows,), dollars: the expected answer of our predictor

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.listings[part], self.matrix[part], self.outputs[part], self.prices[part])


@dataclass(frozen=True)
class Served:
    """A trained model in the formats of the servers."""

    text: Path  # in the format of LightGBM
    bundle: Path
    cache: Path  # cache of a predictor, so that no registry is needed
    rows: Rows  # MANY


def train(folder: Path, trees: int) -> Served:
    """Train on synthetic listings like the pipeline, with this number of trees.

    The rows' outputs and prices are those of LightGBM's own Python package and of the bundle.
    """
    import lightgbm

    parts = split(valid_rows(synthetic.generate(_BATCH, DatasourceSettings().seed, _SCALE)[0]))
    data = TrainingData.of({**parts, "train": parts["train"].head(_TRAIN_ROWS)})
    settings = PipelineSettings.model_construct(num_boost_round=trees, early_stopping_rounds=trees, num_threads=1)
    cache = BundleCache(folder / "bundles")
    with cache.draft() as draft:
        sha256 = train_model(data, settings, draft / "bundle").manifest_sha256
        version = ModelVersion("house-price", "1", "bench", {"manifest_sha256": sha256}, "")
        cache.keep(version, draft / "bundle")
    cache.add_served(version)
    place = cache.find(version)
    assert place is not None
    bundle, text = load_bundle(place), place / "model.txt"
    matrix = build_features(parts["test"], bundle.encodings)
    complete = np.flatnonzero(~np.isnan(matrix).any(axis=1))[:MANY]
    if len(complete) < MANY:
        raise ValueError(f"{len(complete)} listings of the test split are complete, but {MANY} are needed")
    listings = parts["test"][complete].select([name for name in RAW_SCHEMA if name != TARGET])
    outputs = np.asarray(lightgbm.Booster(model_file=text).predict(matrix[complete]))
    rows = Rows(listings.to_dicts(), matrix[complete], outputs, bundle.predict(listings))
    return Served(text, place, folder / "bundles", rows)
