"""Trains models on splits of listings, recorded or synthetic."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from core.features.columns import NUMERIC
from core.features.encodings import Encodings
from core.features.matrix import build_features
from core.features.regression import fit
from core.model.bundle import Bundle, load_bundle
from core.model.estimates import baseline
from datasource import recorded
from datasource.settings import DatasourceSettings
from pipeline.evaluation.scores import score
from pipeline.rows import SPLITS, Deferred, Split
from pipeline.settings import PipelineSettings
from pipeline.training.boosting import boost, dataset
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows, Rows
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows

Parts = dict[Split, pl.DataFrame]
WHOLE = 3  # the batch that was recorded with all its columns
SEED = DatasourceSettings().seed


@dataclass(frozen=True)
class Gain:
    """Scores of the two models on the same rows."""

    numeric: dict[str, float]
    platform: dict[str, float]

    def of(self, name: str) -> float:
        """Relative reduction of the error by the platform's features."""
        return 1 - self.platform[name] / self.numeric[name]


def settings(**changes: object) -> PipelineSettings:
    """The default settings."""
    return PipelineSettings.model_construct(**changes)  # type: ignore[arg-type]


def shuffled(listings: pl.DataFrame, seed: int) -> Parts:
    """The rows split 70/15/15, in an order drawn with `seed`."""
    order = np.random.default_rng(seed).permutation(listings.height)
    ends = np.round(np.cumsum([0, 0.70, 0.15, 0.15]) * listings.height).astype(int)
    return {name: listings[order[ends[at] : ends[at + 1]]] for at, name in enumerate(SPLITS)}


def gain(parts: Parts, pipeline_settings: PipelineSettings, on: Split) -> Gain:
    """Train on the four numeric columns and on the platform's features; compare on one split."""
    price = {name: part["price"].to_numpy() for name, part in parts.items()}
    numeric = {name: part.select(NUMERIC).to_numpy() for name, part in parts.items()}
    matrix, encodings = trained_on(parts["train"], pipeline_settings)
    platform = {name: build_features(part, encodings) for name, part in parts.items()} | {"train": matrix}

    def scores(matrices: dict[Split, np.ndarray], *features: tuple[str, ...]) -> dict[str, float]:
        train, validation = ([Deferred.of(Rows(matrices[name], price[name]))] for name in ("train", "validation"))
        data = dataset(train, pipeline_settings, None, *features)
        booster = boost(data, dataset(validation, pipeline_settings, data, *features), pipeline_settings)
        if not features:
            return score(price[on], priced(booster, matrices[on]))
        return score(price[on], np.exp(np.asarray(booster.predict(matrices[on]))))

    return Gain(scores(numeric, NUMERIC), scores(platform))


def trained_on(train: pl.DataFrame, pipeline_settings: PipelineSettings) -> tuple[np.ndarray, Encodings]:
    """The training matrix, with masked fields, and the encodings for serving."""
    part = Part.of(train)
    sums = part.sums()
    rows = FeatureRows.of_training([Deferred.of(part)], sums, pipeline_settings.seed)
    return rows.select(np.arange(train.height)).features, fit(sums)


def priced(booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
    """Prices of a booster on the platform's features."""
    return np.exp(baseline(matrix) + np.asarray(booster.predict(matrix)))


@dataclass(frozen=True)
class TrainedModel:
    """A model, with its rows."""

    bundle: Bundle
    parts: Parts


def train(parts: Parts, pipeline_settings: PipelineSettings) -> TrainedModel:
    """Train on these splits."""
    with tempfile.TemporaryDirectory() as folder:
        train_model(TrainingData.of(parts), pipeline_settings, Path(folder))
        return TrainedModel(load_bundle(Path(folder)), parts)


def batches(listings: dict[int, pl.DataFrame]) -> Parts:
    """The splits of several batches together, with a column `batch`."""
    parts = {number: split(valid_rows(rows)) for number, rows in listings.items()}
    return {
        name: pl.concat([part[name].with_columns(batch=number) for number, part in parts.items()]) for name in SPLITS
    }


def recorded_batches(folder: Path, scale: float) -> Parts:
    """All recorded batches."""
    return batches({number: recorded.load(folder, number, SEED, scale) for number in recorded.NUMBERS})


def recorded_splits(folder: Path, seed: int) -> Parts:
    """The recorded batch with all its columns, split with this seed."""
    return shuffled(valid_rows(recorded.load(folder, WHOLE, SEED)), seed)
