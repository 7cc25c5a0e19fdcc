"""Trains a model on encoded rows, measures its errors, and writes its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from core.features.columns import FIELDS
from core.features.encodings import Encodings
from core.features.matrix import build_features, matrix
from core.features.regression import fit
from core.features.sums import Sums
from core.features.unencoded import Columns
from core.model.booster import Booster
from core.model.bundle import golden_sample, write_bundle
from core.model.estimates import Estimates, contributions, estimates, prices
from core.model.intervals import Intervals
from pipeline.evaluation.scores import coverage, score
from pipeline.rows import Split
from pipeline.settings import PipelineSettings
from pipeline.training.boosting import Rows, boost, dataset
from pipeline.training.calibration import calibrate, calibration_rows
from pipeline.training.encoded import Part, training_matrix

_MAX_SCORED_ROWS = 20_000  # of train and of validation
_MAX_EXPLAINED_ROWS = 400  # test rows with SHAP values
_MAX_INCOMPLETE_ROWS = 2_000  # test rows that are priced again without some fields
# Fields that callers often leave out together.
_TOGETHER = (("zip_code", "city", "state"), ("bed", "bath"), ("bed", "bath", "house_size"), ("status", "brokered_by"))


@dataclass
class TrainingData:
    """Input of a training: rows for the trees, sums of all batches for the encodings, and rows to measure errors."""

    train: list[Part]
    sums: Sums
    validation: list[Part]
    test: pl.DataFrame

    @staticmethod
    def of(parts: dict[Split, pl.DataFrame]) -> TrainingData:
        """Training data from the clean rows of each split, as one batch."""
        train = Part.of(parts["train"])
        return TrainingData([train], train.sums, [Part.of(parts["validation"])], parts["test"])

    def counts(self) -> dict[str, int]:
        """Number of rows per split, as `train_rows`, `validation_rows`, `test_rows`."""
        train, validation = (sum(len(part.price) for part in parts) for parts in (self.train, self.validation))
        return {"train_rows": train, "validation_rows": validation, "test_rows": self.test.height}


@dataclass(frozen=True)
class TrainingResult:
    """Measurements of a trained model, and the checksum of its bundle."""

    rounds: int
    gain: list[float]  # per feature: how much it lowered the loss
    scores: dict[str, dict[str, float]]  # per split
    estimates: Estimates  # of the test rows
    sample: np.ndarray  # feature matrix of some test rows, (rows, len(FEATURES))
    contributions: np.ndarray  # of the features to the logarithm of their prices, (rows, len(FEATURES))
    without: dict[str, dict[str, float]]  # scores and coverage of test rows with fields removed
    manifest_sha256: str


def train_model(
    data: TrainingData, settings: PipelineSettings, folder: Path, start: str | None = None
) -> TrainingResult:
    """Train a model, and write its bundle to `folder`.

    Empties `data.train` and `data.validation` to free memory. `start` is the text of a model to continue.
    """
    encodings, whole = fit(data.sums), start is not None
    # Each matrix is freed before the next step, because LightGBM's own copy takes a quarter of its memory.
    price = _prices(data.train)
    features, complete = training_matrix(data.train, data.sums, settings.seed)
    train = dataset((features, price), settings, whole=whole)
    scored = {"train": _sample(features, price, complete)}
    del features
    calibration = calibration_rows(data.validation)
    price = _prices(data.validation)
    features = np.concatenate([matrix(part.columns, encodings) for part in data.validation])
    data.validation.clear()
    validation = dataset((features, price), settings, train, whole=whole)
    scored["validation"] = _sample(features, price)
    del features
    booster = boost(train, validation, settings, progress=100, start=start)
    text = booster.model_to_string()
    gain = booster.feature_importance("gain").tolist()
    del booster, train, validation
    model = Booster(text)
    intervals = calibrate(model, encodings, calibration)
    test = build_features(data.test, encodings), data.test["price"].to_numpy()
    estimated = estimates(model, intervals, test[0])
    scores = {name: score(price, prices(model, features)) for name, (features, price) in scored.items()}
    scores["test"] = score(test[1], estimated.prices) | coverage(test[1], estimated)
    sample = test[0][:: -(-len(test[0]) // _MAX_EXPLAINED_ROWS)]
    shap = contributions(model, sample, encodings)[1]
    without = _scores_without_fields(data.test, model, encodings, intervals)
    # Golden listings come from test rows, which the model was not trained on.
    manifest = write_bundle(folder, text, encodings, golden_sample(data.test), intervals)
    return TrainingResult(model.rounds, gain, scores, estimated, sample, shap, without, manifest)


def _scores_without_fields(
    test: pl.DataFrame, model: Booster, encodings: Encodings, intervals: Intervals | None
) -> dict[str, dict[str, float]]:
    """Scores of some test rows with all fields, without each field, without `_TOGETHER`, and without any field."""
    some = test[:: max(1, -(-test.height // _MAX_INCOMPLETE_ROWS))]
    columns, price = Columns.of(some).learned(encodings), some["price"].to_numpy()
    result = {}
    for fields in ((), *((field,) for field in FIELDS), *_TOGETHER, tuple(FIELDS)):
        estimated = estimates(model, intervals, matrix(columns.without(dict.fromkeys(fields, True)), encodings))
        name = "anything" if len(fields) == len(FIELDS) else ", ".join(fields) or "nothing"
        result[name] = {"rows": some.height, **score(price, estimated.prices), **coverage(price, estimated)}
    return result


def _prices(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.price for part in parts])


def _sample(features: np.ndarray, price: np.ndarray, complete: np.ndarray | None = None) -> Rows:
    """At most `_MAX_SCORED_ROWS` of the (complete) rows, evenly spread, because predictions take time."""
    kept = np.arange(len(price)) if complete is None else np.flatnonzero(complete)
    kept = kept[:: max(1, -(-len(kept) // _MAX_SCORED_ROWS))]
    return features[kept], price[kept]
