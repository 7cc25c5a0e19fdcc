"""Stage 5: LightGBM on the clean rows of all batches so far."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl

from core.bundle import golden_sample, prices, write_bundle
from core.errors import DataError
from core.features import CATEGORICAL, FEATURES, FINGERPRINT, build_features, training_features
from pipeline import rows
from pipeline.context import Context
from pipeline.scores import score
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking


def run(context: Context, batch: int) -> dict[str, Any]:
    """Train because of `batch`; the same batches and code were trained on before, return that run.

    Raises:
        RegistryError: MLflow is away or of another version.
        DataError: there are no clean rows.
    """
    batches = context.ledger.decided_batches()
    known = context.ledger.find_training(batch, batches, context.code_version)
    if known:
        return {"run_id": known, "summary": f"batches {batches} were trained on before, in run {known}"}
    tracking = Tracking(context.settings, context.registry)
    decided = context.ledger.decision(context.ledger.batch(batch))
    reason = decided[1] if decided else "by hand, without a decision"
    parts = {name: rows.read_split(context.store, batches, name) for name in rows.SPLITS}
    if not all(part.height for part in parts.values()):
        raise DataError(f"batches {batches} leave a split without rows: {_heights(parts)}")
    tags = {
        "dag_run": context.dag_run,
        "batch": str(batch),
        "batches": ",".join(map(str, batches)),
        "reason": reason,
        "code_version": context.code_version,
        **context.origin,
        "fingerprint": FINGERPRINT,
    }
    with tracking.start_run(f"batch-{batch:04d}", tags) as active, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        booster, scores, manifest = fit(parts, context.settings, folder)
        importance = dict(zip(FEATURES, booster.feature_importance("gain").tolist(), strict=True))
        params = {**_parameters(context.settings), "rounds": booster.current_iteration(), **_heights(parts)}
        tracking.log_training(params, scores, {"feature_importance": importance})
        tracking.log_bundle(folder, manifest)
        run_id: str = active.info.run_id
    context.ledger.add_training(run_id, batch, batches, parts["train"].height, context.code_version, scores)
    summary = (
        f"{parts['train'].height:,} rows of batches {batches}, {booster.current_iteration()} rounds: "
        f"test MAE ${scores['test']['mae']:,.0f}, RMSE ${scores['test']['rmse']:,.0f}, R2 {scores['test']['r2']:.3f}"
    )
    return {"run_id": run_id, "metrics": scores["test"], "summary": summary}


def fit(
    parts: dict[rows.Split, pl.DataFrame], settings: PipelineSettings, folder: Path
) -> tuple[lightgbm.Booster, dict[str, dict[str, float]], str]:
    """Train, write the bundle to `folder`; return the booster, scores per split, and the manifest's sha256."""
    matrix, encodings = training_features(parts["train"])
    matrices = {"train": matrix} | {name: build_features(parts[name], encodings) for name in ("validation", "test")}
    booster = boost(
        (matrices["train"], parts["train"]["price"].to_numpy()),
        (matrices["validation"], parts["validation"]["price"].to_numpy()),
        settings,
        progress=100,
    )
    scores: dict[str, dict[str, float]] = {
        name: score(parts[name]["price"].to_numpy(), prices(np.asarray(booster.predict(matrices[name]))))
        for name in rows.SPLITS
    }
    # the golden listings come from rows that were not trained on
    manifest = write_bundle(folder, booster.model_to_string(), encodings, golden_sample(parts["test"]))
    return booster, scores, manifest


def boost(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    settings: PipelineSettings,
    features: Sequence[str] = FEATURES,
    progress: int = 0,
) -> lightgbm.Booster:
    """Train on rows and their prices in dollars, until the error on other rows does not fall any more.

    The target is the logarithm of the price: errors are relative, and the extreme tail does not rule. Huber's loss
    (a relative error of `huber_alpha` counts once, not squared) does not let placeholders and typing errors rule.
    Every `progress` rounds the error goes to the log.
    """
    data = lightgbm.Dataset(
        train[0],
        label=np.log(train[1]),
        feature_name=list(features),
        categorical_feature=[name for name in CATEGORICAL if name in features],
    )
    held_out = lightgbm.Dataset(validation[0], label=np.log(validation[1]), reference=data)
    return lightgbm.train(
        _parameters(settings),
        data,
        num_boost_round=settings.num_boost_round,
        valid_sets=[held_out],
        callbacks=[
            lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False),
            lightgbm.log_evaluation(progress),
        ],
    )


def _parameters(settings: PipelineSettings) -> dict[str, Any]:
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


def _heights(parts: dict[rows.Split, pl.DataFrame]) -> dict[str, int]:
    return {f"{name}_rows": part.height for name, part in parts.items()}
