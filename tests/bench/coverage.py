"""Measures the coverage of prediction intervals: `python -m tests.bench.coverage`.

1. Coverage per segment of the test rows of all recorded batches (HOUSE_RECORDING_DIR), and per batch, which is not a
   feature. Except for batch 3, only four columns were recorded; places, statuses and brokers are drawn.
2. Mean coverage over many splits of recorded batch 3. Its few validation rows also stop the training early, and the
   table shows the cost of that.
3. Errors, median of actual by estimated prices, and intervals of recorded and synthetic listings without some fields.
   `--complete` trains without masked fields, to show the value of masking.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import numpy as np
import polars as pl

from ci.common.console import main, say
from core.features.columns import FIELDS
from core.listing.schema import RAW_SCHEMA
from core.model.intervals import LEVEL
from datasource import recorded, synthetic
from pipeline.evaluation.scores import coverage, interval_segments, score
from pipeline.training import masking
from tests.kit.trainings import SEED, WHOLE, TrainedModel, batches, recorded_batches, recorded_splits, settings, train

UNKNOWN = (
    (),
    *((field,) for field in FIELDS),
    ("zip_code", "city"),
    ("zip_code", "city", "state"),
    ("bed", "bath"),
    ("house_size", "bed"),
    ("house_size", "bed", "bath"),
    ("house_size", "zip_code"),
    ("bed", "bath", "acre_lot"),
    ("acre_lot", "prev_sold_date"),
    ("status", "brokered_by"),
    ("zip_code", "city", "state", "house_size"),
    tuple(FIELDS),
)


def without(listings: pl.DataFrame, unknown: tuple[str, ...]) -> pl.DataFrame:
    """Listings without some fields."""
    return listings.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)


def segments_table(trained: TrainedModel) -> None:
    """Print the first table."""
    test = trained.parts["test"]
    estimates, price = trained.bundle.estimate(test), test["price"].to_numpy()
    parts = {"all": {"rows": test.height, **coverage(price, estimates)}, **interval_segments(test, estimates)}
    for number in test["batch"].unique().sort():
        rows = (test["batch"] == number).to_numpy()
        each = trained.bundle.estimate(test.filter(rows))
        parts[f"batch {number}"] = {"rows": int(rows.sum()), **coverage(price[rows], each)}
    say(f"recorded batches {', '.join(map(str, recorded.NUMBERS))}: {test.height:,} test rows")
    say(f"{'segment':<32}{'rows':>9}{'within':>9}{'by chance':>11}{'mean width':>12}")
    for name, part in parts.items():
        chance = math.sqrt(LEVEL * (1 - LEVEL) / part["rows"])  # standard deviation from the test rows alone
        say(f"{name:<32}{part['rows']:>9,}{part['coverage']:>9.1%}{f'± {chance:.1%}':>11}{part['width']:>12,.0f}")


def splits(folder: Path, seeds: int) -> list[TrainedModel]:
    """A model for each split of recorded batch 3."""
    return [train(recorded_splits(folder, seed), settings()) for seed in range(seeds)]


def splits_table(trained: list[TrainedModel]) -> None:
    """Print the second table."""
    say(f"recorded batch {WHOLE}, {len(trained)} splits: share within, mean and its standard error")
    for name in ("validation", "test"):
        estimates = [
            coverage(one.parts[name]["price"].to_numpy(), one.bundle.estimate(one.parts[name]))["coverage"]
            for one in trained
        ]
        error = np.std(estimates, ddof=1) / math.sqrt(len(estimates))
        say(f"{name:<32}{np.mean(estimates):>9.2%}{f'± {error:.2%}':>11}")


def unknown_table(rows_name: str, trained: list[TrainedModel]) -> None:
    """Print the third table."""
    say(f"{rows_name}: {sum(one.parts['test'].height for one in trained):,} test rows without some fields")
    say(f"{'without':<42}{'MAE':>9}{'actual by price':>16}{'within':>9}{'width by price':>16}")
    for unknown in UNKNOWN:
        lines = []
        for one in trained:
            test = one.parts["test"]
            price, estimates = test["price"].to_numpy(), one.bundle.estimate(without(test, unknown))
            within = coverage(price, estimates)["coverage"]
            width = float(((estimates.high - estimates.low) / estimates.prices).mean())  # type: ignore[operator]
            lines.append((score(price, estimates.prices)["mae"], np.median(price / estimates.prices), within, width))
        mae, ratio, within, width = np.mean(lines, axis=0)
        name = "all of them" if len(unknown) == len(FIELDS) else ", ".join(unknown) or "-"
        say(f"{name:<42}{mae:>9,.0f}{ratio:>16.2f}{within:>9.1%}{width:>16.2f}")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.coverage", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="scale of the recorded batches (default: %(default)s)")
    parser.add_argument(
        "--synthetic-scale", type=float, default=0.3, help="scale of the synthetic batches (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=40, help="splits of recorded batch 3 (default: %(default)s)")
    parser.add_argument("--complete", action="store_true", help="train on complete rows only")
    parser.add_argument("--only", choices=("recorded", "synthetic"), help="only these listings")
    options = parser.parse_args()
    if options.complete:
        masking.SHARE = 0.0
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder and options.only != "synthetic":
        whole = train(recorded_batches(Path(folder), options.scale), settings())
        segments_table(whole)
        unknown_table("recorded batches", [whole])
        one_batch = splits(Path(folder), options.seeds)
        splits_table(one_batch)
        unknown_table(f"recorded batch {WHOLE}, {options.seeds} splits", one_batch)
    elif options.only != "synthetic":
        say("HOUSE_RECORDING_DIR names no folder of recorded listings: their tables are omitted")
    if options.only == "recorded":
        return
    numbers = [shape.number for shape in synthetic.SHAPES]
    drawn = train(batches({at: synthetic.generate(at, SEED, options.synthetic_scale)[0] for at in numbers}), settings())
    unknown_table(f"synthetic batches at scale {options.synthetic_scale:g}", [drawn])


if __name__ == "__main__":
    main(_main)
