"""Measures `python -m predictor batch`: listings per minute on one core, once the model is loaded.

`python -m tests.bench.batch` prices synthetic listings as Parquet and as CSV, with models of different numbers of
trees, each with nine leaves, as in real trainings. The process is pinned to one core, with one thread, as in a pod.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from ci.common.console import main, say
from core.features.training import training_features
from core.model.booster import Booster
from core.model.bundle import golden_sample, load_bundle, write_bundle
from core.model.estimates import baseline
from core.stores.registry import ModelVersion
from datasource import synthetic
from pipeline.outcome import peak_mib
from pipeline.training.calibration import calibrate
from pipeline.training.encoded import Part
from predictor.batch.job import price_file
from predictor.serving.loader import LoadedModel

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")  # same as in the image


def lay_out(folder: Path, rows: int, trees: list[int]) -> None:
    """Write the files of listings, and a bundle for each number of trees."""
    listings = synthetic.generate(4, seed=7, scale=0.2)[0]
    many = pl.concat([listings.drop("price")] * (rows // listings.height + 1)).head(rows)
    many.write_parquet(folder / "listings.parquet")
    many.write_csv(folder / "listings.csv")
    matrix, encodings = training_features(listings)
    data = lightgbm.Dataset(matrix, np.log(listings["price"].to_numpy()) - baseline(matrix))
    for number in trees:
        booster = lightgbm.train({"num_leaves": 9, "learning_rate": 0.089, "verbose": -1}, data, number)
        text = booster.model_to_string()
        intervals = calibrate(Booster(text), encodings, [Part.of(listings)])
        write_bundle(folder / str(number), text, encodings, golden_sample(listings), intervals)


def measure(folder: Path, trees: int, name: str) -> None:
    """Price a file in this process, and print the figures."""
    version = ModelVersion("house-price", "1", "bench", {}, "")
    champion = LoadedModel(version, load_bundle(folder / str(trees)), datetime.now(UTC))
    began, read = datetime.now(UTC), folder / name
    done = price_file(champion, read, folder / "prices.parquet", "", lambda _: None)
    seconds = (datetime.now(UTC) - began).total_seconds()
    rate = done.rows / seconds
    say(f"{trees:>6,} trees  {name:<17}{rate:>9,.0f} rows/s {rate * 60 / 1e6:>6.2f} million/minute {peak_mib():>5} MiB")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a file (default: %(default)s)")
    parser.add_argument(
        "--trees", type=int, nargs="+", default=[300, 1500], help="trees of the models (default: %(default)s)"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="default: %(default)s")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # for the pinned process
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.trees[0], options.file)
        return
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), options.rows, options.trees)
        for trees in options.trees:
            for file in ("listings.parquet", "listings.csv"):
                words = ["taskset", "-c", str(options.core), sys.executable, "-m", "tests.bench.batch"]
                words += ["--measure", name, "--trees", str(trees), "--file", file]
                subprocess.run(words, env=os.environ | ONE_THREAD, check=True)


if __name__ == "__main__":
    main(_main)
