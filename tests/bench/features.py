"""What the features and the model are worth: `python -m tests.bench.features`.

Two tables of ratios. On recorded batch 3, the one recorded whole (HOUSE_RECORDING_DIR), the platform's features
against the same learner on the four numeric columns, 70/15/15 under several seeds. On the synthetic batches, the error
on each batch's test rows against that of the noise-free price on those very rows, after each batch of the sequence.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from ci.console import main, say
from core.bundle import baseline
from core.encodings import Encodings, fit
from core.features import NUMERIC, build_features
from datasource import recorded, synthetic
from datasource.settings import DatasourceSettings
from pipeline.encoded import Part, training_matrix
from pipeline.learner import boost, dataset
from pipeline.rows import SPLITS, Split
from pipeline.rules import valid_rows
from pipeline.scores import score
from pipeline.settings import PipelineSettings
from pipeline.split import split

Parts = dict[Split, pl.DataFrame]
WHOLE = 3  # the batch that was recorded with all its columns


@dataclass(frozen=True)
class Gain:
    """Scores of the two models on the same rows."""

    numeric: dict[str, float]
    platform: dict[str, float]

    def of(self, name: str) -> float:
        """How much smaller the platform's error is, as a fraction."""
        return 1 - self.platform[name] / self.numeric[name]


def settings(**changes: object) -> PipelineSettings:
    """The shipped defaults."""
    return PipelineSettings.model_construct(**changes)  # type: ignore[arg-type]


def shuffled(listings: pl.DataFrame, seed: int) -> Parts:
    """Rows 70/15/15 in an order drawn with `seed`."""
    order = np.random.default_rng(seed).permutation(listings.height)
    ends = np.round(np.cumsum([0, 0.70, 0.15, 0.15]) * listings.height).astype(int)
    return {name: listings[order[ends[at] : ends[at + 1]]] for at, name in enumerate(SPLITS)}


def gain(parts: Parts, known: PipelineSettings, on: Split) -> Gain:
    """Train on the four numeric columns and on the platform's features; compare on one split."""
    price = {name: part["price"].to_numpy() for name, part in parts.items()}
    numeric = {name: part.select(NUMERIC).to_numpy() for name, part in parts.items()}
    matrix, encodings = trained_on(parts["train"], known)
    platform = {name: build_features(part, encodings) for name, part in parts.items()} | {"train": matrix}

    def scores(matrices: dict[Split, np.ndarray], *features: tuple[str, ...]) -> dict[str, float]:
        train, validation = ((matrices[name], price[name]) for name in ("train", "validation"))
        data = dataset(train, known, None, *features)
        booster = boost(data, dataset(validation, known, data, *features), known)
        if not features:
            return score(price[on], priced(booster, matrices[on]))
        return score(price[on], np.exp(np.asarray(booster.predict(matrices[on]))))

    return Gain(scores(numeric, NUMERIC), scores(platform))


def trained_on(train: pl.DataFrame, known: PipelineSettings) -> tuple[np.ndarray, Encodings]:
    """The matrix that a training sees, some fields of some rows hidden, and the encodings to serve with."""
    part = Part.of(train)
    return training_matrix([part], part.sums, known.seed)[0], fit(part.sums)


def priced(booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
    """Prices of the platform's features."""
    return np.exp(baseline(matrix) + np.asarray(booster.predict(matrix)))


def recorded_table(folder: Path, seeds: int, on: Split) -> None:
    """The first table."""
    listings = valid_rows(recorded.load(folder, WHOLE, DatasourceSettings().seed))
    say(f"recorded batch {WHOLE}, {listings.height:,} rows, {on} rows of {seeds} splits")
    say(f"{'seed':>6}{'MAE 4 columns':>16}{'platform':>10}{'gain':>8}{'RMSE 4 columns':>17}{'platform':>10}{'gain':>8}"
        f"{'R2':>8}{'platform':>10}")  # fmt: skip
    found = [gain(shuffled(listings, seed), settings(), on) for seed in range(seeds)]
    mean = Gain(*({name: float(np.mean([getattr(one, who)[name] for one in found])) for name in found[0].numeric}
                  for who in ("numeric", "platform")))  # fmt: skip
    for seed, one in [*enumerate(found), ("mean", mean)]:
        say(f"{seed:>6}{one.numeric['mae']:>16,.0f}{one.platform['mae']:>10,.0f}{one.of('mae'):>8.1%}"
            f"{one.numeric['rmse']:>17,.0f}{one.platform['rmse']:>10,.0f}{one.of('rmse'):>8.1%}"
            f"{one.numeric['r2']:>8.3f}{one.platform['r2']:>10.3f}")  # fmt: skip


def synthetic_table(scale: float, seed: int) -> None:
    """The second table."""
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
        data = dataset((matrix, price["train"]), settings())
        unseen = build_features(parts["validation"], encodings), price["validation"]
        booster = boost(data, dataset(unseen, settings(), data), settings())
        told, rows = "", {at: batch["test"].height for at, batch in batches.items()}
        for at, batch in batches.items():
            predicted = priced(booster, build_features(batch["test"], encodings))
            told += f"{score(batch['test']['price'].to_numpy(), predicted)['mae'] / floors[at].mae:>9.3f}"
        predicted = priced(booster, build_features(parts["test"], encodings))
        whole = score(price["test"], predicted)
        share = np.array(list(rows.values())) / sum(rows.values())
        mae = float(share @ [floors[at].mae for at in rows])
        rmse = float(np.sqrt(share @ [floors[at].rmse ** 2 for at in rows]))
        say(f"{number:>6}{parts['train'].height:>12,}{booster.best_iteration:>8}{told:<{9 * len(numbers)}}"
            f"{whole['mae'] / mae:>9.3f}{whole['rmse'] / rmse:>9.3f}")  # fmt: skip


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.features", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="splits of the recorded batch (default: %(default)s)")
    parser.add_argument("--on", choices=SPLITS, default="test", help="rows that are compared (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the synthetic batches (default: %(default)s)")
    parser.add_argument("--only", choices=("recorded", "synthetic"), help="one of the two tables")
    options = parser.parse_args()
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder and options.only != "synthetic":
        recorded_table(Path(folder), options.seeds, options.on)
    elif options.only != "synthetic":
        say("HOUSE_RECORDING_DIR names no folder of recorded listings: the first table is left out")
    if options.only != "recorded":
        synthetic_table(options.scale, DatasourceSettings().seed)


if __name__ == "__main__":
    main(_main)
