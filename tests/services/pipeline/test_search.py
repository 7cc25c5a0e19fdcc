"""A search is seeded, continues after an interruption, and is never worse than its first trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.stores.objects import Store, open_store
from datasource import synthetic
from pipeline.rows import SPLITS, Deferred
from pipeline.settings import PipelineSettings
from pipeline.training.encoded import Part
from pipeline.training.search import SPACE, relative_error, search
from pipeline.training.splits import split
from pipeline.validation.row_checks import valid_rows

SETTINGS = PipelineSettings.model_construct()
TRIALS = 14  # more than the random trials at the start


def bowl(settings: PipelineSettings) -> float:
    """An objective with its minimum at a learning rate of 0.1 and 60 leaves."""
    return (settings.learning_rate - 0.1) ** 2 * 400 + (settings.num_leaves / 60 - 1) ** 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}")


def test_search_improves_the_objective_and_changes_only_its_settings(store: Store) -> None:
    best = search(bowl, SETTINGS, TRIALS, store, "one")
    assert bowl(best) < 0.8 * bowl(SETTINGS)
    changed = {name for name in PipelineSettings.model_fields if getattr(best, name, 0) != getattr(SETTINGS, name, 0)}
    assert changed <= set(SPACE)
    trials = json.loads(store.get("search/one.json"))
    assert len(trials) == TRIALS
    assert trials[0]["values"] == {name: getattr(SETTINGS, name) for name in SPACE}, (
        "the first trial has the settings as they are"
    )


def test_interrupted_search_has_the_same_result(store: Store) -> None:
    whole = search(bowl, SETTINGS, TRIALS, store, "whole")
    calls = 0

    def killed(settings: PipelineSettings) -> float:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise KeyboardInterrupt
        return bowl(settings)

    while True:
        try:
            best = search(killed, SETTINGS, TRIALS, store, "parts")
            break
        except KeyboardInterrupt:
            pass
    assert store.get("search/parts.json") == store.get("search/whole.json")
    assert best == whole
    assert calls == TRIALS + 3, "a finished trial ran again"


def test_another_seed_gives_other_trials(store: Store) -> None:
    search(bowl, SETTINGS, 3, store, "seven")
    search(bowl, SETTINGS.model_copy(update={"seed": 8}), 3, store, "eight")
    assert store.get("search/seven.json") != store.get("search/eight.json")


def test_objective_is_the_error_after_training(store: Store) -> None:
    parts = split(valid_rows(synthetic.generate(4, seed=7, scale=0.005)[0]))
    train, validation = ([Deferred.of(Part.of(parts[name]))] for name in SPLITS[:2])
    error = relative_error(train, validation, seed=7)
    quick = SETTINGS.model_copy(update={"num_boost_round": 40, "num_threads": 1})
    assert error(quick) == error(quick)
    assert error(quick) < error(quick.model_copy(update={"num_boost_round": 3}))
