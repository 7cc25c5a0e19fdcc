"""Training: the gain of the features, and the same bundle from the same rows."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from core.features.columns import CATEGORICAL, FEATURES
from core.features.sums import Sums
from core.listing.schema import RAW_SCHEMA
from core.model.bundle import load_bundle
from core.model.estimates import baseline
from core.stores import layout
from core.stores.objects import Store, open_store
from datasource import recorded, synthetic
from pipeline import rows
from pipeline.evaluation.scores import coverage, score
from pipeline.rows import SPLITS, Split
from pipeline.settings import PipelineSettings
from pipeline.training import boosting, encoded, pieces
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows
from pipeline.training.sold import read_sold
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows
from tests.kit.trainings import WHOLE, gain, settings, shuffled

from .chance import within_chance

RECORDING = os.environ.get("HOUSE_RECORDING_DIR", "")
SETTINGS = PipelineSettings.model_construct(num_threads=1, num_boost_round=60)


def parts() -> dict[Split, pl.DataFrame]:
    return split(valid_rows(synthetic.generate(4, seed=7, scale=0.008)[0]))


def train(folder: str) -> None:
    """Train, and print the sha256 of the manifest; a test runs this in its own process."""
    print(train_model(TrainingData.of(parts()), SETTINGS, Path(folder)).manifest_sha256)


@pytest.mark.skipif(not RECORDING, reason="HOUSE_RECORDING_DIR names no folder of recorded listings")
def test_features_beat_the_four_numeric_columns_on_recorded_listings() -> None:
    listings = valid_rows(recorded.load(Path(RECORDING), WHOLE, 7))
    # Over many splits the gain is 12 to 15 % in MAE, 11 to 12 % in RMSE. This is one split, with 608 rows.
    result = gain(shuffled(listings, 3), settings(num_threads=1), "test")
    assert result.of("mae") > 0.10, result
    assert result.of("rmse") > 0.08, result


@pytest.mark.skipif(not RECORDING, reason="HOUSE_RECORDING_DIR names no folder of recorded listings")
@pytest.mark.parametrize("number", [2, WHOLE])
def test_recorded_listings_without_a_field_have_small_errors_and_nominal_coverage(number: int, tmp_path: Path) -> None:
    listings = split(valid_rows(recorded.load(Path(RECORDING), number, 7, scale=0.05 if number != WHOLE else 1.0)))
    train_model(
        TrainingData.of(listings), PipelineSettings.model_construct(num_threads=1, num_boost_round=300), tmp_path
    )
    bundle, test = load_bundle(tmp_path), listings["test"]
    actual = test["price"].to_numpy()
    whole = score(actual, bundle.predict(test))["mae"]
    for unknown in (("house_size",), ("bed",), ("bath",), ("acre_lot",), ("prev_sold_date",), ("house_size", "bed")):
        result = bundle.estimate(test.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown))
        assert 0.8 < np.median(actual / result.prices) < 1.25, unknown
        assert score(actual, result.prices)["mae"] < 1.25 * whole, unknown
        assert within_chance(coverage(actual, result)["coverage"], test.height, listings["validation"].height), unknown


def test_same_rows_and_seed_give_the_same_bundle_in_any_process(tmp_path: Path) -> None:
    first, again = (
        train_model(TrainingData.of(parts()), SETTINGS, tmp_path / name).manifest_sha256 for name in ("first", "again")
    )
    assert again == first
    program = f"from tests.services.pipeline.test_train import train; train({str(tmp_path / 'other')!r})"
    environment = os.environ | {"PYTHONHASHSEED": "12345", "POLARS_MAX_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip().rpartition("\n")[2] == first, done.stderr
    settings = PipelineSettings.model_construct(num_threads=1, num_boost_round=60, seed=8)
    assert train_model(TrainingData.of(parts()), settings, tmp_path / "8").manifest_sha256 != first


def test_bundle_has_the_scores_of_its_training(tmp_path: Path) -> None:
    listings = parts()
    trained = train_model(TrainingData.of(listings), SETTINGS, tmp_path)
    bundle = load_bundle(tmp_path)
    for name in SPLITS[1:]:
        price, result = listings[name]["price"].to_numpy(), bundle.estimate(listings[name])
        ranged = coverage(price, result) if name == "test" else {}
        assert score(price, result.prices) | ranged == trained.scores[name]
    assert trained.scores["test"]["coverage"] > 0.7
    assert (bundle.booster.rounds, bundle.booster.features) == (trained.rounds, len(FEATURES))


def test_continued_model_keeps_its_trees_and_adds_new_ones(tmp_path: Path) -> None:
    old, new = parts(), split(valid_rows(synthetic.generate(2, seed=7, scale=0.008)[0]))
    first = train_model(TrainingData.of(old), SETTINGS, tmp_path / "first")
    start = (tmp_path / "first" / "model.txt").read_text()
    data = TrainingData.of(new)
    data.sums = Sums.total([Part.of(old["train"]).sums(), data.sums])
    more = train_model(data, SETTINGS, tmp_path / "more", start)
    assert more.rounds > first.rounds
    assert tree(tmp_path / "more", 0) == tree(tmp_path / "first", 0)
    before = load_bundle(tmp_path / "first").predict(new["test"])
    assert score(new["test"]["price"].to_numpy(), before)["mae"] > more.scores["test"]["mae"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clean rows of batches 1, 2 and 4."""
    result = open_store(tmp_path_factory.mktemp("store").as_uri())
    for number in (1, 2, 4):
        for name, listings in split(valid_rows(synthetic.generate(number, seed=7, scale=0.005)[0])).items():
            rows.write(result, layout.clean_key(number, name), listings)
    return result


def train_in_pieces(store: Store, folder: Path, piece_rows: int, trees: list[int], start: str | None = None) -> str:
    """Train on batches 1, 2 and 4, the trees on some of them, and return the sha256 of the manifest."""
    train, validation = (rows.defer_split(store, [1, 2, 4], name, encoded.read) for name in SPLITS[:2])
    data = TrainingData(
        [part for number, part in zip((1, 2, 4), train, strict=True) if number in trees],
        encoded.total_sums(train),
        validation,
        rows.defer_split(store, [1, 2, 4], "test", rows.read_batch),
        [partial(read_sold, store, number) for number in (1, 2, 4)],
    )
    settings = SETTINGS.model_copy(update={"num_threads": 2, "num_boost_round": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_ROWS", piece_rows)
        return train_model(data, settings, folder, start).manifest_sha256


@pytest.mark.parametrize("mode", ["full", "window", "continue"])
def test_size_of_the_pieces_does_not_change_the_bundle(store: Store, tmp_path: Path, mode: str) -> None:
    start, trees = None, [1, 2, 4] if mode == "full" else [2, 4]
    if mode == "continue":
        train_in_pieces(store, tmp_path / "start", 10**6, [1])
        start = (tmp_path / "start" / "model.txt").read_text()
    whole, divided = (train_in_pieces(store, tmp_path / str(size), size, trees, start) for size in (10**6, 97))
    assert divided == whole


def test_pieces_give_the_trees_of_their_matrix(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the bins come from a sample of the rows."""
    sampled = boosting.parameters(SETTINGS) | {"bin_construct_sample_cnt": 700, "num_iterations": 20}
    monkeypatch.setattr(boosting, "parameters", lambda _: sampled)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 97)
    parts = rows.defer_split(store, [1, 2, 4], "train", encoded.read)
    source = FeatureRows.of_training(parts, encoded.total_sums(parts), SETTINGS.seed)
    every = source.select(np.arange(source.count))
    assert len(source.pieces()) > 20
    assert source.count > 2 * 700
    matrix = lightgbm.Dataset(
        every.features,
        np.log(every.price) - baseline(every.features),
        feature_name=list(FEATURES),
        categorical_feature=list(CATEGORICAL),
        params=sampled,
    )
    divided = boosting.dataset(source.pieces(), SETTINGS)
    texts = [lightgbm.train(sampled, data).model_to_string() for data in (divided, matrix)]
    assert texts[0] == texts[1]


def tree(folder: Path, number: int) -> str:
    """Split features and thresholds of a tree."""
    result = (folder / "model.txt").read_text().split(f"\nTree={number}\n")[1].split("\n\n")[0]
    return "\n".join(line for line in result.splitlines() if line.startswith(("split_feature", "threshold")))
