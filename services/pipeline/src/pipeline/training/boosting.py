"""Trains LightGBM boosters with the platform's loss and settings. Only this module imports LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np

from core.features.columns import BASELINE, CATEGORICAL, FEATURES
from core.model.estimates import baseline
from pipeline.settings import PipelineSettings

Rows = tuple[np.ndarray, np.ndarray]  # feature matrix, and prices in dollars


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
    rows: Rows,
    settings: PipelineSettings,
    like: lightgbm.Dataset | None = None,
    features: Sequence[str] = FEATURES,
    whole: bool = False,
) -> lightgbm.Dataset:
    """Rows in LightGBM's own form, which takes a quarter of the memory of the matrix.

    The target is the logarithm of the price, minus the baseline if that is among the features. So errors are relative,
    extreme prices do not dominate, and the trees can reach prices beyond those of the training rows. With `whole` the
    matrix is kept too: training that continues a model needs it to compute that model's predictions.
    """
    data = lightgbm.Dataset(
        rows[0],
        label=np.log(rows[1]) - (baseline(rows[0]) if BASELINE in features else 0.0),
        reference=like,
        feature_name=list(features),
        categorical_feature=[name for name in CATEGORICAL if name in features],
        params=parameters(settings),
        free_raw_data=not whole,
    )
    return data.construct()


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
