"""Measures the value of features and model: `python -m tests.bench.features`.

It prints two tables of ratios:

1. On recorded batch 3, which has all columns (HOUSE_RECORDING_DIR): the platform's features against the same learner on
   the four numeric columns, split 70/15/15 with several seeds.
2. On the synthetic batches: the error on the test rows of each batch, divided by the error of the noise-free price on
   the same rows, after each batch of the sequence.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import polars as pl

from ci.common.console import main, say
from core.features.matrix import build_features
from datasource import recorded, synthetic
from datasource.settings import DatasourceSettings
from pipeline.evaluation.scores import score
from pipeline.rows import SPLITS, Deferred, Split
from pipeline.training.boosting import boost, dataset
from pipeline.training.features import Rows
from pipeline.training.splits import split
from pipeline.validation.row_checks import valid_rows
from tests.kit.trainings import WHOLE, Gain, Parts, gain, priced, settings, shuffled, trained_on


def recorded_table(folder: Path, seeds: int, on: Split) -> None:
    """Print the first table."""
    listings = valid_rows(recorded.load(folder, WHOLE, DatasourceSettings().seed))
    say(f"recorded batch {WHOLE}, {listings.height:,} rows, {on} rows of {seeds} splits")
    say(f"{'seed':>6}{'MAE 4 columns':>16}{'platform':>10}{'gain':>8}{'RMSE 4 columns':>17}{'platform':>10}{'gain':>8}"
        f"{'R2':>8}{'platform':>10}")  # fmt: skip
    gains = [gain(shuffled(listings, seed), settings(), on) for seed in range(seeds)]
    mean = Gain(*({name: float(np.mean([getattr(one, model)[name] for one in gains])) for name in gains[0].numeric}
                  for model in ("numeric", "platform")))  # fmt: skip
    for seed, one in [*enumerate(gains), ("mean", mean)]:
        say(f"{seed:>6}{one.numeric['mae']:>16,.0f}{one.platform['mae']:>10,.0f}{one.of('mae'):>8.1%}"
            f"{one.numeric['rmse']:>17,.0f}{one.platform['rmse']:>10,.0f}{one.of('rmse'):>8.1%}"
            f"{one.numeric['r2']:>8.3f}{one.platform['r2']:>10.3f}")  # fmt: skip


def synthetic_table(scale: float, seed: int) -> None:
    """Print the second table."""
    numbers = [shape.number for shape in synthetic.SHAPES]
    say(f"synthetic batches at scale {scale:g}: MAE over the floor, on the test rows of each batch so far")
    say(f"{'after':>6}{'train rows':>12}{'rounds':>8}" + "".join(f"{f'batch {number}':>9}" for number in numbers)
        + f"{'all':>9}{'RMSE':>9}")  # fmt: skip
    batches: dict[int, Parts] = {}
    floors: dict[int, synthetic.Floor] = {}
    for number in numbers:
        listings, floors[number] = synthetic.generate(number, seed, scale)
        batches[number] = split(valid_rows(listings))
        if number == WHOLE:  # too small: its rows count in the next training
            continue
        parts: Parts = {name: pl.concat([batch[name] for batch in batches.values()]) for name in SPLITS}
        matrix, encodings = trained_on(parts["train"], settings())
        price = {name: part["price"].to_numpy() for name, part in parts.items()}
        data = dataset([Deferred.of(Rows(matrix, price["train"]))], settings())
        unseen = Rows(build_features(parts["validation"], encodings), price["validation"])
        booster = boost(data, dataset([Deferred.of(unseen)], settings(), data), settings())
        line, rows = "", {at: batch["test"].height for at, batch in batches.items()}
        for at, batch in batches.items():
            predicted = priced(booster, build_features(batch["test"], encodings))
            line += f"{score(batch['test']['price'].to_numpy(), predicted)['mae'] / floors[at].mae:>9.3f}"
        predicted = priced(booster, build_features(parts["test"], encodings))
        whole = score(price["test"], predicted)
        share = np.array(list(rows.values())) / sum(rows.values())
        mae = float(share @ [floors[at].mae for at in rows])
        rmse = float(np.sqrt(share @ [floors[at].rmse ** 2 for at in rows]))
        say(f"{number:>6}{parts['train'].height:>12,}{booster.best_iteration:>8}{line:<{9 * len(numbers)}}"
            f"{whole['mae'] / mae:>9.3f}{whole['rmse'] / rmse:>9.3f}")  # fmt: skip


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.features", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="splits of the recorded batch (default: %(default)s)")
    parser.add_argument("--on", choices=SPLITS, default="test", help="split to compare on (default: %(default)s)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of the synthetic batches (default: %(default)s)"
    )
    parser.add_argument("--only", choices=("recorded", "synthetic"), help="print only this table")
    options = parser.parse_args()
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder and options.only != "synthetic":
        recorded_table(Path(folder), options.seeds, options.on)
    elif options.only != "synthetic":
        say("HOUSE_RECORDING_DIR names no folder of recorded listings: the first table is omitted")
    if options.only != "recorded":
        synthetic_table(options.scale, DatasourceSettings().seed)


if __name__ == "__main__":
    main(_main)
