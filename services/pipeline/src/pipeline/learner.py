"""LightGBM with the platform's loss and settings: matrices in, booster out. The only module that imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np

from core.bundle import baseline
from core.features import BASELINE, CATEGORICAL, FEATURES
from pipeline.settings import PipelineSettings

Rows = tuple[np.ndarray, np.ndarray]  # feature matrix, and prices in dollars


def boost(
    train: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    settings: PipelineSettings,
    progress: int = 0,
    start: str | None = None,
) -> lightgbm.Booster:
    """Train on a `dataset` until the error on another one, made with the first as `like`, does not fall any more.

    Huber's loss (a relative error of `huber_alpha` counts once, not squared) does not let placeholders and typing
    errors rule.
    Every `progress` rounds the error goes to the log. `start` is the text of a model whose trees come first.
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
    """Rows as LightGBM holds them, in a quarter of the memory; only a `whole` one keeps the matrix too.

    The target is the logarithm of the price, less the baseline where that is among the features: errors are relative,
    the extreme tail does not rule, and prices beyond those of the training rows are not out of the trees' reach.
    Trees that continue a model need the matrix, to know what that model says of its rows.
    """
    made = lightgbm.Dataset(
        rows[0],
        label=np.log(rows[1]) - (baseline(rows[0]) if BASELINE in features else 0.0),
        reference=like,
        feature_name=list(features),
        categorical_feature=[name for name in CATEGORICAL if name in features],
        params=parameters(settings),
        free_raw_data=not whole,
    )
    return made.construct()


def parameters(settings: PipelineSettings) -> dict[str, Any]:
    """LightGBM's parameters; the same rows, parameters and number of threads give the same trees."""
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
