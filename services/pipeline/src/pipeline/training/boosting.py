"""Trains LightGBM boosters with the platform's loss and settings. Only this module imports LightGBM."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np

from core.features.columns import BASELINE, CATEGORICAL, FEATURES
from core.model.estimates import baseline
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings
from pipeline.training.features import Rows
from pipeline.training.pieces import last_kept


def boost(
    train: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    settings: PipelineSettings,
    progress: int = 0,
    start: str | None = None,
) -> lightgbm.Booster:
    """Train on a `dataset` until the error on the validation dataset stops falling.

    Huber's loss limits the influence of placeholders and typing errors: relative errors over `huber_alpha` count
    linearly, not squared.

    Args:
        train: rows to train on.
        validation: rows for early stopping; a `dataset` made with `train` as `like`.
        settings: hyperparameters.
        progress: log the error every so many rounds; 0 logs nothing.
        start: text of a model whose trees come first.
    """
    return lightgbm.train(
        parameters(settings),
        train,
        num_boost_round=settings.num_boost_round,
        valid_sets=[validation],
        init_model=lightgbm.Booster(model_str=start) if start else None,
        callbacks=[
            lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False),
            lightgbm.log_evaluation(progress),
        ],
    )


def dataset(
    pieces: Sequence[Deferred[Rows]],
    settings: PipelineSettings,
    like: lightgbm.Dataset | None = None,
    features: Sequence[str] = FEATURES,
    again: bool = False,
) -> lightgbm.Dataset:
    """Rows in LightGBM's own form, which takes a quarter of the memory of the matrix.

    The target is the logarithm of the price, minus the baseline if that is among the features. So errors are relative,
    extreme prices do not dominate, and the trees can reach prices beyond those of the training rows.

    One piece is in memory at a time, and the result does not depend on the division into pieces. Each is read twice: a
    first time for the rows that the bins come from. With `again` they can be read once more: training that continues a
    model needs them to compute that model's predictions.
    """
    targets = [np.empty(piece.count, dtype=np.float32) for piece in pieces]
    data = _Dataset(
        [_Piece(piece, target, BASELINE in features) for piece, target in zip(last_kept(pieces), targets, strict=True)],
        reference=like,
        feature_name=list(features),
        categorical_feature=[name for name in CATEGORICAL if name in features],
        params=parameters(settings),
        free_raw_data=not again,
    )
    return data.construct().set_label(np.concatenate(targets))


class _Piece(lightgbm.Sequence):
    """A piece for LightGBM, which asks for single rows to choose the bins, and then for all rows."""

    batch_size = sys.maxsize

    def __init__(self, piece: Deferred[Rows], target: np.ndarray, has_baseline: bool) -> None:
        """Read nothing yet. The target of the rows is written to `target` when LightGBM asks for all rows."""
        self._piece, self._target, self._has_baseline = piece, target, has_baseline

    def __len__(self) -> int:
        return self._piece.count

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self._piece.read()
        if not isinstance(index, slice):
            row: np.ndarray = rows.features[index].astype(np.float64)
            return row
        self._target[:] = np.log(rows.price) - (baseline(rows.features) if self._has_baseline else 0.0)
        return rows.features[index]


class _Dataset(lightgbm.Dataset):
    """A dataset of `_Piece`s with exactly the content that LightGBM gives to a dataset of their matrix."""

    def get_params(self) -> dict[str, Any]:
        """All parameters. For pieces, LightGBM would ignore some that choose and filter bins, such as the seed."""
        return dict(self.params or {})

    def _set_init_score_by_predictor(self, predictor: Any, data: Any, used_indices: Any) -> _Dataset:  # noqa: ARG002 - LightGBM's signature
        """Start from the predictions of the model that is continued.

        LightGBM calls this after all rows are in the dataset. A prediction between two pieces can change the number of
        OpenMP threads, for which the dataset has its buffers, and the process would crash.
        """
        if predictor is None:
            return self
        self.set_init_score(np.concatenate([predictor.predict(piece[:], raw_score=True) for piece in data]))
        return self


def parameters(settings: PipelineSettings) -> dict[str, Any]:
    """LightGBM's parameters. The same rows, parameters and number of threads give the same trees."""
    return {
        "objective": "huber",
        "alpha": settings.huber_alpha,
        "metric": "l1",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": settings.lambda_l2,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": settings.num_threads,
        "verbose": -1,
    }
