"""A search is seeded, goes on where it was interrupted, and is never worse than what it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.storage import Store, open_store
from datasource import synthetic
from pipeline.encoded import Part
from pipeline.rules import valid_rows
from pipeline.search import SPACE, relative_error, search
from pipeline.settings import PipelineSettings
from pipeline.split import split

SETTINGS = PipelineSettings.model_construct()
TRIALS = 14  # more than are drawn at random


def bowl(settings: PipelineSettings) -> float:
    """Least where the learning rate is 0.1 and there are 60 leaves."""
    return (settings.learning_rate - 0.1) ** 2 * 400 + (settings.num_leaves / 60 - 1) ** 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}")


def test_search_finds_better_settings_and_changes_nothing_else(store: Store) -> None:
    found = search(bowl, SETTINGS, TRIALS, store, "one")
    assert bowl(found) < 0.8 * bowl(SETTINGS)
    changed = {name for name in PipelineSettings.model_fields if getattr(found, name, 0) != getattr(SETTINGS, name, 0)}
    assert changed <= set(SPACE)
    trials = json.loads(store.get("search/one.json"))
    assert len(trials) == TRIALS
    assert trials[0]["values"] == {name: getattr(SETTINGS, name) for name in SPACE}, (
        "the settings as they are come first"
    )


def test_interrupted_search_ends_as_one_that_was_not(store: Store) -> None:
    whole = search(bowl, SETTINGS, TRIALS, store, "whole")
    asked = 0

    def killed(settings: PipelineSettings) -> float:
        nonlocal asked
        asked += 1
        if asked % 5 == 0:
            raise KeyboardInterrupt
        return bowl(settings)

    while True:
        try:
            found = search(killed, SETTINGS, TRIALS, store, "parts")
            break
        except KeyboardInterrupt:
            pass
    assert store.get("search/parts.json") == store.get("search/whole.json")
    assert found == whole
    assert asked == TRIALS + 3, "a trial that was done was done again"


def test_another_seed_searches_elsewhere(store: Store) -> None:
    search(bowl, SETTINGS, 3, store, "seven")
    search(bowl, SETTINGS.model_copy(update={"seed": 8}), 3, store, "eight")
    assert store.get("search/seven.json") != store.get("search/eight.json")


def test_objective_is_the_error_after_training(store: Store) -> None:
    parts = split(valid_rows(synthetic.generate(4, seed=7, scale=0.005)[0]))
    error = relative_error([Part.of(parts["train"])], [Part.of(parts["validation"])], seed=7)
    quick = SETTINGS.model_copy(update={"num_boost_round": 40, "num_threads": 1})
    assert error(quick) == error(quick)
    assert error(quick) < error(quick.model_copy(update={"num_boost_round": 3}))
