"""Search for better hyperparameters: seeded, and resumed where it was interrupted. The only module that imports Optuna.

`python -m pipeline search --trials 30` searches on the clean rows of all batches and prints what to set in values; with
`training_search_trials` every training searches first, and trains with what it found. Trials are kept in the object
store, under a name that tells data, features and seed: a trial that was done is never done again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

from core.encodings import Sums, fit
from core.errors import DataError
from core.features import FINGERPRINT, matrix
from core.settings import chart_key
from core.storage import Store
from pipeline import encoded
from pipeline.context import Context
from pipeline.encoded import Part, training_matrix
from pipeline.learner import Rows, boost, dataset
from pipeline.settings import PipelineSettings

# What is searched, and where. The number of rounds is found by early stopping.
SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "learning_rate": optuna.distributions.FloatDistribution(0.02, 0.15, log=True),
    "num_leaves": optuna.distributions.IntDistribution(7, 127, log=True),
    "min_data_in_leaf": optuna.distributions.IntDistribution(10, 100, log=True),
    "feature_fraction": optuna.distributions.FloatDistribution(0.4, 1.0),
    "bagging_fraction": optuna.distributions.FloatDistribution(0.5, 1.0),
    "lambda_l2": optuna.distributions.FloatDistribution(0.1, 50.0, log=True),
    "huber_alpha": optuna.distributions.FloatDistribution(0.05, 0.4, log=True),
}
_DIGITS = 3  # of a value, significant: more says nothing, and cannot be read
_TRAIN_ROWS = 200_000  # of a trial, at most
_STARTUP_TRIALS = 10  # drawn at random, before what they showed decides


def search(
    objective: Callable[[PipelineSettings], float], settings: PipelineSettings, trials: int, store: Store, name: str
) -> PipelineSettings:
    """Settings with the least objective of `trials` trials, the first of which are the settings as they are.

    Trials are kept in `store` under `name`. Each draws from a seed of its own, so that a search that was interrupted
    ends as one that was not.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    key = f"search/{name}.json"
    done: list[dict[str, Any]] = json.loads(store.get(key)) if store.exists(key) else []
    while len(done) < trials:
        values = _next(done, settings)
        tried = settings.model_copy(update=values)
        done.append({"values": values, "objective": objective(tried)})
        store.put(key, json.dumps(done).encode())
        print(f"search: trial {len(done)} of {trials}: {done[-1]['objective']:.5f} with {values}", flush=True)
    best = min(done[:trials], key=lambda trial: float(trial["objective"]))
    return settings.model_copy(update=best["values"])


def _next(done: list[dict[str, Any]], settings: PipelineSettings) -> dict[str, Any]:
    """Values of the next trial."""
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


def relative_error(parts: list[Part], validation: list[Part], seed: int) -> Callable[[PipelineSettings], float]:
    """Mean absolute error of the logarithm of the price on the validation rows, after training on train rows."""
    known = Sums.total([part.sums for part in parts])
    train = _rows(parts, training_matrix(list(parts), known, seed)[0])
    encodings = fit(known)
    unseen = _rows(validation, np.concatenate([matrix(part.columns, encodings) for part in validation]))
    step = -(-len(train[1]) // _TRAIN_ROWS)
    some = train[0][::step], train[1][::step]

    def error(settings: PipelineSettings) -> float:
        data = dataset(some, settings)  # anew: some of the settings are about it
        return float(boost(data, dataset(unseen, settings, data), settings).best_score["valid_0"]["l1"])

    return error


def _rows(parts: list[Part], features: np.ndarray) -> Rows:
    return features, np.concatenate([part.price for part in parts])


def run(context: Context, trials: str) -> dict[str, Any]:
    """Search on the clean rows of all batches; gives the best settings, as in values.

    Raises:
        DataError: `trials` is no number, or there are no clean rows.
    """
    batches = context.ledger.decided_batches()
    if not trials.isdecimal() or int(trials) < 1:
        raise DataError(f"{trials!r} is no number of trials")
    if not batches:
        raise DataError("there are no clean rows to search on: run fetch, validate and split before")
    found = best(context, batches, int(trials))
    told = {chart_key(name): getattr(found, name) for name in SPACE}
    return {"settings": told, "summary": f"set in airflow.pipeline.config: {json.dumps(told)}"}


def best(context: Context, batches: list[int], trials: int) -> PipelineSettings:
    """The context's settings with the best hyperparameters for these batches."""
    settings = context.settings
    versions = [f"{number} {context.ledger.batch(number).sha256}" for number in batches]
    start = [getattr(settings, name) for name in SPACE]
    told = json.dumps([FINGERPRINT, versions, settings.seed, start, sorted(SPACE)])
    name = hashlib.sha256(told.encode()).hexdigest()[:16]
    train, validation = (
        [encoded.read(context.store, number, split) for number in batches] for split in ("train", "validation")
    )
    return search(relative_error(train, validation, settings.seed), settings, trials, context.store, name)
