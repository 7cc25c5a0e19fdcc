"""Trains a model on encoded rows, measures its errors, and writes its bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from core.model.bundle import golden_positions, golden_sample, write_bundle
from core.model.estimates import Estimates, contributions, estimates, prices
from core.model.intervals import Intervals
from pipeline.evaluation import holdout
from pipeline.evaluation.scores import coverage, score
from pipeline.rows import Deferred, Split
from pipeline.settings import PipelineSettings
from pipeline.training.boosting import boost, dataset
from pipeline.training.calibration import calibrate, calibration_rows
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows
from pipeline.training.masking import complete_rows
from pipeline.training.pieces import select, spread
from pipeline.training.sold import collect_sales, sold_listings

_MAX_SCORED_ROWS = 20_000  # of train and of validation
_MAX_EXPLAINED_ROWS = 400  # test rows with SHAP values
_MAX_INCOMPLETE_ROWS = 2_000  # test rows that are priced again without some fields
# Fields that callers often leave out together.
_TOGETHER = (("zip_code", "city", "state"), ("bed", "bath"), ("bed", "bath", "house_size"), ("status", "brokered_by"))


@dataclass
class TrainingData:
    """Input of a training: rows for the trees, sums of all batches for the encodings, and rows to measure errors.

    `sold` reads the sold listings of all batches, one batch per call (`pipeline.training.sold`).
    """

    train: list[Deferred[Part]]
    sums: Sums
    validation: list[Deferred[Part]]
    test: list[Deferred[pl.DataFrame]]
    sold: Sequence[Callable[[], pl.DataFrame]] = ()

    @staticmethod
    def of(parts: dict[Split, pl.DataFrame]) -> TrainingData:
        """Training data from the clean rows of each split, as one batch."""
        train = Part.of(parts["train"])
        validation = Part.of(parts["validation"])
        return TrainingData(
            [Deferred.of(train)],
            train.sums(),
            [Deferred.of(validation)],
            [Deferred.of(parts["test"])],
            [lambda: sold_listings(parts["train"].lazy()).collect()],
        )

    def counts(self) -> dict[str, int]:
        """Number of rows per split, as `train_rows`, `validation_rows`, `test_rows`."""
        train, validation, test = (
            sum(part.count for part in parts) for parts in (self.train, self.validation, self.test)
        )
        return {"train_rows": train, "validation_rows": validation, "test_rows": test}


@dataclass(frozen=True)
class TrainingResult:
    """Measurements of a trained model, and the checksum of its bundle."""

    rounds: int
    gain: list[float]  # per feature: how much it lowered the loss
    scores: dict[str, dict[str, float]]  # per split
    test: pl.DataFrame  # columns `holdout.KEPT` of the test rows
    estimates: Estimates  # of the test rows
    sample: np.ndarray  # feature matrix of some test rows, (rows, len(FEATURES))
    contributions: np.ndarray  # of the features to the logarithm of their prices, (rows, len(FEATURES))
    without: dict[str, dict[str, float]]  # scores and coverage of test rows with fields removed
    manifest_sha256: str


def train_model(
    data: TrainingData, settings: PipelineSettings, folder: Path, start: str | None = None
) -> TrainingResult:
    """Train a model, and write its bundle to `folder`. `start` is the text of a model to continue."""
    encodings, again = fit(data.sums), start is not None
    source = FeatureRows.of_training(data.train, data.sums, settings.seed)
    train = dataset(source.pieces(), settings, again=again)
    scored = {"train": source.select(_complete(source, settings.seed))}
    del source  # the encodings of five folds
    unseen = FeatureRows.of_unseen(data.validation, encodings)
    validation = dataset(unseen.pieces(), settings, train, again=again)
    booster = boost(train, validation, settings, progress=100, start=start)
    text = booster.model_to_string()
    gain = booster.feature_importance("gain").tolist()
    del booster, train, validation
    model = Booster(text)
    intervals = calibrate(model, encodings, calibration_rows(data.validation))
    test, estimated = holdout.estimate(
        data.test, lambda listings: estimates(model, intervals, build_features(listings, encodings))
    )
    price = test["price"].to_numpy()
    scored["validation"] = unseen.select(spread(unseen.count, _MAX_SCORED_ROWS))
    scores = {name: score(rows.price, prices(model, rows.features)) for name, rows in scored.items()}
    scores["test"] = score(price, estimated.prices) | coverage(price, estimated)
    sample = build_features(_listings(data.test, spread(test.height, _MAX_EXPLAINED_ROWS)), encodings)
    shap = contributions(model, sample, encodings)[1]
    some = _listings(data.test, spread(test.height, _MAX_INCOMPLETE_ROWS))
    without = _scores_without_fields(some, model, encodings, intervals)
    # Golden listings come from test rows, which the model was not trained on.
    golden = golden_sample(_listings(data.test, golden_positions(test.height)))
    manifest = write_bundle(folder, text, encodings, golden, intervals, collect_sales(data.sold))
    return TrainingResult(model.rounds, gain, scores, test, estimated, sample, shap, without, manifest)


def _scores_without_fields(
    some: pl.DataFrame, model: Booster, encodings: Encodings, intervals: Intervals | None
) -> dict[str, dict[str, float]]:
    """Scores of some test rows with all fields, without each field, without `_TOGETHER`, and without any field."""
    columns, price = Columns.of(some).learned(encodings), some["price"].to_numpy()
    result = {}
    for fields in ((), *((field,) for field in FIELDS), *_TOGETHER, tuple(FIELDS)):
        estimated = estimates(model, intervals, matrix(columns.without(dict.fromkeys(fields, True)), encodings))
        name = "anything" if len(fields) == len(FIELDS) else ", ".join(fields) or "nothing"
        result[name] = {"rows": some.height, **score(price, estimated.prices), **coverage(price, estimated)}
    return result


def _complete(source: FeatureRows, seed: int) -> np.ndarray:
    """Positions of at most `_MAX_SCORED_ROWS` training rows without masked fields, evenly spread."""
    complete = np.flatnonzero(np.concatenate([complete_rows(part.read().columns, seed) for part in source.parts]))
    positions: np.ndarray = complete[spread(len(complete), _MAX_SCORED_ROWS)]
    return positions


def _listings(parts: Sequence[Deferred[pl.DataFrame]], positions: np.ndarray) -> pl.DataFrame:
    return pl.concat(select(parts, positions))
