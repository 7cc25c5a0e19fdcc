"""Stored encoded rows equal newly encoded ones, for any division into batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.features.columns import FIELDS, PLAIN
from core.features.regression import fit
from core.features.sums import Sums
from core.features.training import training_features
from core.stores import layout
from core.stores.objects import Store, open_store
from datasource import synthetic
from pipeline import rows
from pipeline.rows import Deferred
from pipeline.training import encoded
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows
from pipeline.training.masking import SHARE, complete_rows, masked_fields
from pipeline.validation.row_checks import valid_rows

BATCHES = {number: valid_rows(synthetic.generate(number, seed=7, scale=0.005)[0]) for number in (0, 1, 4)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    result = open_store(f"file://{tmp_path}")
    for number, listings in BATCHES.items():
        rows.write(result, layout.clean_key(number, "train"), listings)
    return result


def same(left: Part, right: Part) -> None:
    assert np.array_equal(left.columns.plain, right.columns.plain, equal_nan=True)
    assert left.columns.keys == right.columns.keys
    for name, codes in left.columns.codes.items():
        assert np.array_equal(codes, right.columns.codes[name])
    assert np.array_equal(left.price, right.price)
    assert np.array_equal(left.fold, right.fold)


def test_stored_rows_equal_newly_encoded_ones(store: Store) -> None:
    for number, listings in BATCHES.items():
        made, kept = (encoded.read(store, number, "train") for _ in range(2))
        same(made, Part.of(listings))
        same(kept, made)


def test_rows_are_encoded_once_and_again_after_a_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    part_of = Part.of
    monkeypatch.setattr(Part, "of", lambda listings: made.append(listings.height) or part_of(listings))
    for _ in range(2):
        encoded.read(store, 0, "train")
    assert made == [BATCHES[0].height]
    rows.write(store, layout.clean_key(0, "train"), BATCHES[1])
    same(encoded.read(store, 0, "train"), part_of(BATCHES[1]))
    assert made == [BATCHES[0].height, BATCHES[1].height]
    monkeypatch.setattr(encoded, "FINGERPRINT", "other features")
    encoded.read(store, 0, "train")
    assert len(made) == 3, "stored rows with another definition of features were used"


def test_sums_of_batches_equal_the_sums_of_all_rows(store: Store) -> None:
    parts = rows.defer_split(store, list(BATCHES), "train", encoded.read)
    total = encoded.total_sums(parts)
    whole, learned = training_features(pl.concat(BATCHES.values()))
    assert total.keys == Part.of(pl.concat(BATCHES.values())).columns.keys
    result = fit(total)
    assert result.coefficients == pytest.approx(learned.coefficients, abs=2e-6)
    for name, table in learned.tables.items():
        assert result.tables[name].index == table.index
        assert np.array_equal(result.tables[name].rows, table.rows)
        assert result.tables[name].effect == pytest.approx(table.effect, abs=2e-6)
    source = FeatureRows.of_training(parts, total, seed=7)
    complete = np.flatnonzero(np.concatenate([complete_rows(part.read().columns, seed=7) for part in parts]))
    made = source.select(complete)
    assert made.features == pytest.approx(whole[complete], rel=1e-5, abs=2e-5, nan_ok=True)
    assert np.array_equal(made.price, pl.concat(BATCHES.values())["price"].to_numpy()[complete])


def test_rows_without_any_category_are_encoded() -> None:
    listings = (
        BATCHES[0].head(40).with_columns(pl.lit(None, pl.String).alias(name) for name in ("state", "city", "status"))
    )
    part = Part.of(listings.with_columns(zip_code=pl.lit(None, pl.Float64), brokered_by=pl.lit(None, pl.Float64)))
    assert all(list(keys) == [] for keys in part.columns.keys.values())
    total = Sums.total([part.sums(), Part.of(BATCHES[1]).sums()])
    (made,) = FeatureRows.of_training([Deferred.of(part)], total, seed=7).pieces()
    assert np.isfinite(made.read().features[:, -1]).all()


def test_masks_do_not_depend_on_the_other_rows(store: Store) -> None:
    part = encoded.read(store, 4, "train")
    taken = masked_fields(part.columns, seed=7)
    some = np.arange(0, len(part.price), 3)
    again = masked_fields(part.columns.take(some), seed=7)
    assert all(np.array_equal(again[field], rows[some]) for field, rows in taken.items())
    assert any(not np.array_equal(rows, taken[field]) for field, rows in masked_fields(part.columns, seed=8).items())


def test_masked_rows_lack_many_combinations_of_fields() -> None:
    part = Part.of(pl.concat(BATCHES.values()))
    taken = np.stack(list(masked_fields(part.columns, seed=7).values()))
    fields = taken.sum(axis=0)
    assert SHARE * 0.7 < (fields > 0).mean() < SHARE
    assert set(fields.tolist()) == set(range(len(FIELDS) + 1)), "from no field to all"
    assert len(np.unique(taken, axis=1).T) > 50
    lacking = taken.mean(axis=1)
    assert lacking.min() > 0.8 * lacking.max(), "all fields are masked equally often"


def test_complete_rows_are_marked(store: Store) -> None:
    parts = rows.defer_split(store, list(BATCHES), "train", encoded.read)
    for part, made in zip(parts, FeatureRows.of_training(parts, encoded.total_sums(parts), 7).pieces(), strict=True):
        columns = part.read().columns
        complete = complete_rows(columns, 7)
        assert np.array_equal(complete, ~np.any(list(masked_fields(columns, 7).values()), axis=0))
        unknown = np.isnan(columns.plain).any(axis=1)
        assert not np.isnan(made.read().features[complete & ~unknown, : len(PLAIN)]).any()
