"""What training promises: the gain of the features, and the same bundle from the same rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.bundle import load_bundle
from core.encodings import Sums
from core.features import FEATURES, RAW_SCHEMA
from datasource import recorded, synthetic
from pipeline.encoded import Part
from pipeline.rows import SPLITS, Split
from pipeline.rules import valid_rows
from pipeline.scores import coverage
from pipeline.settings import PipelineSettings
from pipeline.split import split
from pipeline.train import Data, learn
from tests.bench import features as bench

from .chance import surely

RECORDING = os.environ.get("HOUSE_RECORDING_DIR", "")
SETTINGS = PipelineSettings.model_construct(num_threads=1, num_boost_round=60)


def parts() -> dict[Split, pl.DataFrame]:
    return split(valid_rows(synthetic.generate(4, seed=7, scale=0.008)[0]))


def train(folder: str) -> None:
    """Train, and print the manifest's sha256: for a process of its own."""
    print(learn(Data.of(parts()), SETTINGS, Path(folder)).manifest_sha256)


@pytest.mark.skipif(not RECORDING, reason="HOUSE_RECORDING_DIR names no folder of recorded listings")
def test_features_beat_the_four_numeric_columns_on_recorded_listings() -> None:
    listings = valid_rows(recorded.load(Path(RECORDING), bench.WHOLE, 7))
    # measured over many splits: 12 to 15 % in MAE, 11 to 12 % in RMSE; this is one of them, of 608 rows
    found = bench.gain(bench.shuffled(listings, 3), bench.settings(num_threads=1), "test")
    assert found.of("mae") > 0.10, found
    assert found.of("rmse") > 0.08, found


@pytest.mark.skipif(not RECORDING, reason="HOUSE_RECORDING_DIR names no folder of recorded listings")
@pytest.mark.parametrize("number", [2, bench.WHOLE])
def test_recorded_listing_without_a_field_is_priced_as_well_as_can_be(number: int, tmp_path: Path) -> None:
    rows = split(valid_rows(recorded.load(Path(RECORDING), number, 7, scale=0.05 if number != bench.WHOLE else 1.0)))
    learn(Data.of(dict(rows)), PipelineSettings.model_construct(num_threads=1, num_boost_round=300), tmp_path)
    bundle, test = load_bundle(tmp_path), rows["test"]
    paid = test["price"].to_numpy()
    whole = bench.score(paid, bundle.predict(test))["mae"]
    for unknown in (("house_size",), ("bed",), ("bath",), ("acre_lot",), ("prev_sold_date",), ("house_size", "bed")):
        found = bundle.estimate(test.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown))
        assert 0.8 < np.median(paid / found.prices) < 1.25, unknown
        assert bench.score(paid, found.prices)["mae"] < 1.25 * whole, unknown
        assert surely(coverage(paid, found)["coverage"], test.height, rows["validation"].height), unknown


def test_same_rows_and_seed_give_the_same_bundle_in_any_process(tmp_path: Path) -> None:
    first, again = (learn(Data.of(parts()), SETTINGS, tmp_path / name).manifest_sha256 for name in ("first", "again"))
    assert again == first
    program = f"from tests.services.pipeline.test_train import train; train({str(tmp_path / 'other')!r})"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip().rpartition("\n")[2] == first, done.stderr
    settings = PipelineSettings.model_construct(num_threads=1, num_boost_round=60, seed=8)
    assert learn(Data.of(parts()), settings, tmp_path / "8").manifest_sha256 != first


def test_bundle_scores_as_the_training_said(tmp_path: Path) -> None:
    rows = parts()
    trained = learn(Data.of(rows), SETTINGS, tmp_path)
    bundle = load_bundle(tmp_path)
    for name in SPLITS[1:]:
        price, found = rows[name]["price"].to_numpy(), bundle.estimate(rows[name])
        ranged = coverage(price, found) if name == "test" else {}
        assert bench.score(price, found.prices) | ranged == trained.scores[name]
    assert trained.scores["test"]["coverage"] > 0.7
    assert (bundle.booster.rounds, bundle.booster.features) == (trained.rounds, len(FEATURES))


def test_continued_model_keeps_its_trees_and_adds_to_them(tmp_path: Path) -> None:
    rows, new = parts(), split(valid_rows(synthetic.generate(2, seed=7, scale=0.008)[0]))
    first = learn(Data.of(rows), SETTINGS, tmp_path / "first")
    start = (tmp_path / "first" / "model.txt").read_text()
    data = Data.of(new)
    data.sums = Sums.total([Part.of(rows["train"]).sums, data.sums])
    more = learn(data, SETTINGS, tmp_path / "more", start)
    assert more.rounds > first.rounds
    assert tree(tmp_path / "more", 0) == tree(tmp_path / "first", 0)
    before = load_bundle(tmp_path / "first").predict(new["test"])
    assert bench.score(new["test"]["price"].to_numpy(), before)["mae"] > more.scores["test"]["mae"]


def tree(folder: Path, number: int) -> str:
    """What a tree decides, without where it stands in the text."""
    found = (folder / "model.txt").read_text().split(f"\nTree={number}\n")[1].split("\n\n")[0]
    return "\n".join(line for line in found.splitlines() if line.startswith(("split_feature", "threshold")))
