"""The one model that all servers serve, and the rows that they are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.bundle import load_bundle
from core.encodings import Sums
from core.features import RAW_SCHEMA, TARGET, build_features
from core.registry import ModelVersion
from datasource import synthetic
from datasource.settings import DatasourceSettings
from pipeline.encoded import Part
from pipeline.rules import valid_rows
from pipeline.settings import PipelineSettings
from pipeline.split import split
from pipeline.train import Data, learn
from predictor.cache import BundleCache

MANY = 10_000  # listings of one request
_BATCH, _SCALE = 0, 1.5  # of the synthetic ones: test rows enough
_TRAIN_ROWS = 20_000


@dataclass(frozen=True)
class Rows:
    """Listings and what is known of them."""

    listings: list[dict[str, Any]]
    matrix: np.ndarray  # float32, (rows, features), nothing unknown: JSON has no NaN, and not every peer takes null
    outputs: np.ndarray  # float64, (rows,): what the trees give, which is the peers' answer
    prices: np.ndarray  # float64, (rows,), dollars: our answer

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.listings[part], self.matrix[part], self.outputs[part], self.prices[part])


@dataclass(frozen=True)
class Served:
    """A trained model in the forms that the servers want."""

    text: Path  # of LightGBM
    bundle: Path
    cache: Path  # of a predictor that served it before, so that no registry is needed
    rows: Rows  # MANY


def train(folder: Path, trees: int) -> Served:
    """Train on synthetic listings as the pipeline does, but for the number of trees.

    The rows' outputs and prices are those of LightGBM's own Python package and of the bundle.
    """
    import lightgbm

    parts = split(valid_rows(synthetic.generate(_BATCH, DatasourceSettings().seed, _SCALE)[0]))
    learned = Part.of(parts["train"].head(_TRAIN_ROWS))
    data = Data([learned], Sums.total([learned.sums]), [Part.of(parts["validation"])], parts["test"])
    settings = PipelineSettings.model_construct(num_boost_round=trees, early_stopping_rounds=trees, num_threads=1)
    cache = BundleCache(folder / "bundles")
    with cache.draft() as draft:
        sha256 = learn(data, settings, draft / "bundle").manifest_sha256
        version = ModelVersion("house-price", "1", "bench", {"manifest_sha256": sha256}, "")
        cache.keep(version, draft / "bundle")
    cache.note_served(version)
    place = cache.find(version)
    assert place is not None
    bundle, text = load_bundle(place), place / "model.txt"
    matrix = build_features(parts["test"], bundle.encodings)
    known = np.flatnonzero(~np.isnan(matrix).any(axis=1))[:MANY]
    if len(known) < MANY:
        raise ValueError(f"{len(known)} listings of the test split are whole, {MANY} are asked about")
    listings = parts["test"][known].select([name for name in RAW_SCHEMA if name != TARGET])
    outputs = np.asarray(lightgbm.Booster(model_file=text).predict(matrix[known]))
    rows = Rows(listings.to_dicts(), matrix[known], outputs, bundle.predict(listings))
    return Served(text, place, folder / "bundles", rows)
