"""Searches hyperparameters with Optuna: seeded, and resumable after an interruption. Only this module imports Optuna.

Trials are stored in the object store, under a name that depends on data, features and seed, so no trial runs twice.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from core.features.columns import FINGERPRINT
from core.features.regression import fit
from core.stores import layout
from core.stores.objects import Store
from pipeline import rows
from pipeline.context import Context
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings
from pipeline.training import encoded
from pipeline.training.boosting import boost, dataset
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows
from pipeline.training.pieces import spread

# The hyperparameters and their bounds. Early stopping sets the number of rounds.
SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "learning_rate": optuna.distributions.FloatDistribution(0.02, 0.15, log=True),
    "num_leaves": optuna.distributions.IntDistribution(7, 127, log=True),
    "min_data_in_leaf": optuna.distributions.IntDistribution(10, 100, log=True),
    "feature_fraction": optuna.distributions.FloatDistribution(0.4, 1.0),
    "bagging_fraction": optuna.distributions.FloatDistribution(0.5, 1.0),
    "lambda_l2": optuna.distributions.FloatDistribution(0.1, 50.0, log=True),
    "huber_alpha": optuna.distributions.FloatDistribution(0.05, 0.4, log=True),
}
_DIGITS = 3  # significant digits of a value; more make no difference
_MAX_TRAIN_ROWS = 200_000  # per trial
_STARTUP_TRIALS = 10  # random trials before the sampler uses their results


def search(
    objective: Callable[[PipelineSettings], float], settings: PipelineSettings, trials: int, store: Store, name: str
) -> PipelineSettings:
    """The settings with the lowest objective among `trials` trials. The first trial has the settings as they are.

    Trials are stored under `name`. Each trial draws from its own seed, so a search that was interrupted ends with the
    same result as one that was not.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    key = layout.search_key(name)
    done: list[dict[str, Any]] = json.loads(store.get(key)) if store.exists(key) else []
    while len(done) < trials:
        values = _next(done, settings)
        done.append({"values": values, "objective": objective(settings.model_copy(update=values))})
        store.put(key, json.dumps(done).encode())
        print(f"search: trial {len(done)} of {trials}: {done[-1]['objective']:.5f} with {values}", flush=True)
    best = min(done[:trials], key=lambda trial: float(trial["objective"]))
    return settings.model_copy(update=best["values"])


def _next(done: list[dict[str, Any]], settings: PipelineSettings) -> dict[str, Any]:
    """Hyperparameters of the next trial."""
    if not done:
        return {name: getattr(settings, name) for name in SPACE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=settings.seed + len(done), multivariate=True, n_startup_trials=_STARTUP_TRIALS
        )
    study = optuna.create_study(sampler=sampler)
    for trial in done:
        inside = {name: _clipped(SPACE[name], value) for name, value in trial["values"].items()}
        study.add_trial(optuna.trial.create_trial(params=inside, distributions=SPACE, value=trial["objective"]))
    drawn = study.ask(SPACE).params
    return {name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value for name, value in drawn.items()}


def _clipped(within: Any, value: float) -> float:
    clipped: float = type(within.low)(min(max(value, within.low), within.high))
    return clipped


def relative_error(
    train: Sequence[Deferred[Part]], validation: Sequence[Deferred[Part]], seed: int
) -> Callable[[PipelineSettings], float]:
    """The objective: trains on train rows; returns the mean absolute error of the log price on validation rows."""
    total = encoded.total_sums(train)
    source, unseen = FeatureRows.of_training(train, total, seed), FeatureRows.of_unseen(validation, fit(total))
    some = Deferred.of(source.select(spread(source.count, _MAX_TRAIN_ROWS)))

    def error(settings: PipelineSettings) -> float:
        data = dataset([some], settings)  # built for each trial, because it depends on the settings
        return float(boost(data, dataset(unseen.pieces(), settings, data), settings).best_score["valid_0"]["l1"])

    return error


def best_settings(context: Context, batches: list[int], trials: int) -> PipelineSettings:
    """The context's settings with the best hyperparameters for these batches."""
    settings = context.settings
    versions = [f"{number} {context.ledger.batch(number).sha256}" for number in batches]
    start = [getattr(settings, name) for name in SPACE]
    identity = json.dumps([FINGERPRINT, versions, settings.seed, start, sorted(SPACE)])
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    train, validation = (rows.defer_split(context.store, batches, split, encoded.read) for split in rows.SPLITS[:2])
    return search(relative_error(train, validation, settings.seed), settings, trials, context.store, name)
