"""How many listings a minute `python -m predictor batch` prices on one core, once the model is loaded.

`python -m tests.bench.batch`: synthetic listings as Parquet and as CSV, with models of more and fewer trees, each
of nine leaves, as trainings make them. The process that prices is pinned to one core, with one thread, as in a pod.
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

from ci.console import main, say
from core.booster import Booster
from core.bundle import baseline, golden_sample, load_bundle, write_bundle
from core.features import training_features
from core.registry import ModelVersion
from datasource import synthetic
from pipeline.__main__ import peak_mib
from pipeline.calibration import calibrate, measured
from pipeline.encoded import Part
from predictor.batch import price_file
from predictor.champion import Champion

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")  # as the image has it


def lay_out(folder: Path, rows: int, trees: list[int]) -> None:
    """The files of listings, and a bundle of each number of trees."""
    known = synthetic.generate(4, seed=7, scale=0.2)[0]
    many = pl.concat([known.drop("price")] * (rows // known.height + 1)).head(rows)
    many.write_parquet(folder / "listings.parquet")
    many.write_csv(folder / "listings.csv")
    matrix, encodings = training_features(known)
    data = lightgbm.Dataset(matrix, np.log(known["price"].to_numpy()) - baseline(matrix))
    for number in trees:
        booster = lightgbm.train({"num_leaves": 9, "learning_rate": 0.089, "verbose": -1}, data, number)
        text = booster.model_to_string()
        ranges = calibrate(Booster(text), encodings, measured([Part.of(known)]))
        write_bundle(folder / str(number), text, encodings, golden_sample(known), ranges)


def measure(folder: Path, trees: int, name: str) -> None:
    """Price a file in this process; prints the figures."""
    version = ModelVersion("house-price", "1", "bench", {}, "")
    champion = Champion(version, load_bundle(folder / str(trees)), datetime.now(UTC))
    began, read = datetime.now(UTC), folder / name
    done = price_file(champion, read, folder / "prices.parquet", "", lambda _: None)
    seconds = (datetime.now(UTC) - began).total_seconds()
    rate = done.rows / seconds
    say(f"{trees:>6,} trees  {name:<17}{rate:>9,.0f} rows/s {rate * 60 / 1e6:>6.2f} million/minute {peak_mib():>5} MiB")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of a file (default: %(default)s)")
    parser.add_argument(
        "--trees", type=int, nargs="+", default=[300, 1500], help="of the models (default: %(default)s)"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="default: %(default)s")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # the process that is pinned
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
