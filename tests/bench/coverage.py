"""How many prices lie within their ranges: `python -m tests.bench.coverage`.

First, per segment of the test rows of all recorded batches together (HOUSE_RECORDING_DIR), and per batch, which no
model is told. Of all but batch 3 only four columns were recorded; places, statuses and brokers are drawn. Second, the
mean over many splits of recorded batch 3, whose few validation rows also stop the training: what that costs. Third, on
synthetic batches, with fields of the listings taken away.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ci.console import main, say
from core.bundle import Bundle, load_bundle
from core.features import RAW_SCHEMA
from core.ranges import LEVEL
from datasource import recorded, synthetic
from datasource.settings import DatasourceSettings
from pipeline.rows import SPLITS, Split
from pipeline.rules import valid_rows
from pipeline.scores import coverage, range_segments
from pipeline.settings import PipelineSettings
from pipeline.split import split
from pipeline.train import Data, learn
from tests.bench.features import WHOLE, Parts, settings, shuffled

SEED = DatasourceSettings().seed
UNKNOWN = (
    (),
    ("zip_code",),
    ("zip_code", "city"),
    ("zip_code", "city", "state"),
    ("house_size",),
    ("zip_code", "city", "state", "house_size"),
    ("bed", "bath", "acre_lot"),
    ("status", "brokered_by"),
    ("prev_sold_date",),
)


@dataclass(frozen=True)
class Trained:
    """A model, and the rows that it was made and judged with."""

    bundle: Bundle
    parts: Parts


def train(parts: Parts, known: PipelineSettings) -> Trained:
    """Train on parts."""
    with tempfile.TemporaryDirectory() as folder:
        learn(Data.of(parts), known, Path(folder))
        return Trained(load_bundle(Path(folder)), parts)


def batches(listings: dict[int, pl.DataFrame]) -> Parts:
    """The splits of batches together, with a column `batch`."""
    parts = {number: split(valid_rows(rows)) for number, rows in listings.items()}
    return {
        name: pl.concat([part[name].with_columns(batch=number) for number, part in parts.items()]) for name in SPLITS
    }


def recorded_batches(folder: Path, scale: float) -> Parts:
    """All recorded batches."""
    return batches({number: recorded.load(folder, number, SEED, scale) for number in recorded.NUMBERS})


def recorded_splits(folder: Path, seed: int) -> Parts:
    """The recorded batch of which every column is known, split anew."""
    return shuffled(valid_rows(recorded.load(folder, WHOLE, SEED)), seed)


def without(listings: pl.DataFrame, unknown: tuple[str, ...]) -> pl.DataFrame:
    """Listings whose callers did not know some fields."""
    return listings.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)


def segments_table(trained: Trained) -> None:
    """The first table."""
    test = trained.parts["test"]
    found, price = trained.bundle.estimate(test), test["price"].to_numpy()
    parts = {"all": {"rows": test.height, **coverage(price, found)}, **range_segments(test, found)}
    for number in test["batch"].unique().sort():
        rows = (test["batch"] == number).to_numpy()
        each = trained.bundle.estimate(test.filter(rows))
        parts[f"batch {number}"] = {"rows": int(rows.sum()), **coverage(price[rows], each)}
    say(f"recorded batches {', '.join(map(str, recorded.NUMBERS))}: {test.height:,} test rows")
    say(f"{'segment':<32}{'rows':>9}{'within':>9}{'by chance':>11}{'mean width':>12}")
    for name, part in parts.items():
        chance = math.sqrt(LEVEL * (1 - LEVEL) / part["rows"])  # of the rows alone
        say(f"{name:<32}{part['rows']:>9,}{part['coverage']:>9.1%}{f'± {chance:.1%}':>11}{part['width']:>12,.0f}")


def splits_table(folder: Path, seeds: int) -> None:
    """The second table."""
    say(f"recorded batch {WHOLE}, {seeds} splits: share within, mean and its standard error")
    shares: dict[Split, list[float]] = {"validation": [], "test": []}
    for seed in range(seeds):
        one = train(recorded_splits(folder, seed), settings())
        for name, found in shares.items():
            rows = one.parts[name]
            found.append(coverage(rows["price"].to_numpy(), one.bundle.estimate(rows))["coverage"])
    for name, found in shares.items():
        say(f"{name:<32}{np.mean(found):>9.2%}{f'± {np.std(found, ddof=1) / math.sqrt(seeds):.2%}':>11}")


def unknown_table(scale: float) -> None:
    """The third table."""
    numbers = [shape.number for shape in synthetic.SHAPES]
    trained = train(batches({at: synthetic.generate(at, SEED, scale)[0] for at in numbers}), settings())
    test = trained.parts["test"]
    say(f"synthetic batches at scale {scale:g}, {test.height:,} test rows without some fields")
    say(f"{'without':<42}{'within':>9}{'width by price':>16}")
    for unknown in UNKNOWN:
        found = trained.bundle.estimate(without(test, unknown))
        within = coverage(test["price"].to_numpy(), found)["coverage"]
        width = float(((found.high - found.low) / found.prices).mean())  # type: ignore[operator]
        say(f"{', '.join(unknown) or '-':<42}{within:>9.1%}{width:>16.2f}")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.coverage", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the recorded batches (default: %(default)s)")
    parser.add_argument("--synthetic-scale", type=float, default=0.3, help="of the others (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=40, help="splits of recorded batch 3 (default: %(default)s)")
    options = parser.parse_args()
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder:
        segments_table(train(recorded_batches(Path(folder), options.scale), settings()))
        splits_table(Path(folder), options.seeds)
    else:
        say("HOUSE_RECORDING_DIR names no folder of recorded listings: the first two tables are left out")
    unknown_table(options.synthetic_scale)


if __name__ == "__main__":
    main(_main)
