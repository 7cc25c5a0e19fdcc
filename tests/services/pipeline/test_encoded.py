"""Encoded rows that were kept are those that would be made, however the rows came in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.encodings import Sums, fit
from core.features import FIELDS, PLAIN, Columns, training_features
from core.storage import Store, open_store
from datasource import synthetic
from pipeline import encoded, rows
from pipeline.encoded import Part, training_matrix
from pipeline.hidden import SHARE, hidden
from pipeline.rules import valid_rows

BATCHES = {number: valid_rows(synthetic.generate(number, seed=7, scale=0.005)[0]) for number in (0, 1, 4)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = open_store(f"file://{tmp_path}")
    for number, listings in BATCHES.items():
        rows.write(found, rows.clean_key(number, "train"), listings)
    return found


def same(left: Part, right: Part) -> None:
    assert np.array_equal(left.columns.plain, right.columns.plain, equal_nan=True)
    assert left.columns.keys == right.columns.keys
    for name, codes in left.columns.codes.items():
        assert np.array_equal(codes, right.columns.codes[name])
    assert np.array_equal(left.price, right.price)
    assert np.array_equal(left.fold, right.fold)
    assert fit(left.sums).to_json() == fit(right.sums).to_json()
    assert np.array_equal(left.sums.cell, right.sums.cell)


def test_what_was_kept_is_what_would_be_made(store: Store) -> None:
    for number, listings in BATCHES.items():
        made, kept = (encoded.read(store, number, "train") for _ in range(2))
        same(made, Part.of(listings))
        same(kept, made)


def test_rows_are_encoded_once_and_again_where_they_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    part_of = Part.of
    monkeypatch.setattr(Part, "of", lambda listings: made.append(listings.height) or part_of(listings))
    for _ in range(2):
        encoded.read(store, 0, "train")
    assert made == [BATCHES[0].height]
    rows.write(store, rows.clean_key(0, "train"), BATCHES[1])
    same(encoded.read(store, 0, "train"), part_of(BATCHES[1]))
    assert made == [BATCHES[0].height, BATCHES[1].height]
    monkeypatch.setattr(encoded, "FINGERPRINT", "other features")
    encoded.read(store, 0, "train")
    assert len(made) == 3, "rows of another definition of features were taken"


def test_batches_teach_what_their_rows_would_teach_as_one(store: Store) -> None:
    parts = [encoded.read(store, number, "train") for number in BATCHES]
    known = Sums.total([part.sums for part in parts])
    whole, learned = training_features(pl.concat(BATCHES.values()))
    assert known.keys == Part.of(pl.concat(BATCHES.values())).sums.keys
    found = fit(known)
    assert found.coefficients == pytest.approx(learned.coefficients, abs=2e-6)
    for name, table in learned.tables.items():
        assert found.tables[name].index == table.index
        assert np.array_equal(found.tables[name].rows, table.rows)
        assert found.tables[name].effect == pytest.approx(table.effect, abs=2e-6)
    made, complete = training_matrix(parts, known, seed=7)
    assert made[complete] == pytest.approx(whole[complete], rel=1e-5, abs=2e-5, nan_ok=True)
    assert parts == [], "rows are let go"


def test_rows_without_any_category_are_encoded_too() -> None:
    listings = (
        BATCHES[0].head(40).with_columns(pl.lit(None, pl.String).alias(name) for name in ("state", "city", "status"))
    )
    part = Part.of(listings.with_columns(zip_code=pl.lit(None, pl.Float64), brokered_by=pl.lit(None, pl.Float64)))
    assert all(list(keys) == [] for keys in part.columns.keys.values())
    known = Sums.total([part.sums, Part.of(BATCHES[1]).sums])
    assert np.isfinite(training_matrix([part], known, seed=7)[0][:, -1]).all()


def test_hidden_fields_are_the_same_whatever_rows_come_along(store: Store) -> None:
    part = encoded.read(store, 4, "train")
    taken = hidden(part.columns, seed=7)
    some = np.arange(0, len(part.price), 3)
    again = hidden(part.columns.take(some), seed=7)
    assert all(np.array_equal(again[field], rows[some]) for field, rows in taken.items())
    assert any(not np.array_equal(rows, taken[field]) for field, rows in hidden(part.columns, seed=8).items())


def test_share_of_the_rows_lacks_fields_in_many_ways() -> None:
    part = Part.of(pl.concat(BATCHES.values()))
    taken = np.stack(list(hidden(part.columns, seed=7).values()))
    fields = taken.sum(axis=0)
    assert SHARE * 0.7 < (fields > 0).mean() < SHARE
    assert set(fields.tolist()) == set(range(len(FIELDS) + 1)), "from one to all"
    assert len(np.unique(taken, axis=1).T) > 50
    lacking = taken.mean(axis=1)
    assert lacking.min() > 0.8 * lacking.max(), "every field as often as any other"


def test_rows_that_nothing_is_hidden_of_are_told(store: Store) -> None:
    parts = [encoded.read(store, number, "train") for number in BATCHES]
    known = Sums.total([part.sums for part in parts])
    taken = [np.any(list(hidden(part.columns, 7).values()), axis=0) for part in parts]
    whole = Columns.together([part.columns.learned(fit(known)) for part in parts])
    made, complete = training_matrix(parts, known, seed=7)
    assert np.array_equal(complete, ~np.concatenate(taken))
    unknown = np.isnan(whole.plain).any(axis=1)
    assert not np.isnan(made[complete & ~unknown, : len(PLAIN)]).any()
