"""How many prices lie within their ranges: `python -m tests.bench.coverage`.

First, per segment of the test rows of all recorded batches together (HOUSE_RECORDING_DIR), and per batch, which no
model is told. Of all but batch 3 only four columns were recorded; places, statuses and brokers are drawn. Second, the
mean over many splits of recorded batch 3, whose few validation rows also stop the training: what that costs. Third,
with fields of the listings taken away, of recorded and of synthetic ones: errors, the middle of paid by estimated
prices, and ranges. With `--complete` no field is hidden from a training: what hiding some is worth.
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
from core.features import FIELDS, RAW_SCHEMA
from core.ranges import LEVEL
from datasource import recorded, synthetic
from datasource.settings import DatasourceSettings
from pipeline import hidden
from pipeline.rows import SPLITS
from pipeline.rules import valid_rows
from pipeline.scores import coverage, range_segments, score
from pipeline.settings import PipelineSettings
from pipeline.split import split
from pipeline.train import Data, learn
from tests.bench.features import WHOLE, Parts, settings, shuffled

SEED = DatasourceSettings().seed
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


def splits(folder: Path, seeds: int) -> list[Trained]:
    """A model of each split of recorded batch 3."""
    return [train(recorded_splits(folder, seed), settings()) for seed in range(seeds)]


def splits_table(trained: list[Trained]) -> None:
    """The second table."""
    say(f"recorded batch {WHOLE}, {len(trained)} splits: share within, mean and its standard error")
    for name in ("validation", "test"):
        found = [
            coverage(one.parts[name]["price"].to_numpy(), one.bundle.estimate(one.parts[name]))["coverage"]
            for one in trained
        ]
        error = np.std(found, ddof=1) / math.sqrt(len(found))
        say(f"{name:<32}{np.mean(found):>9.2%}{f'± {error:.2%}':>11}")


def unknown_table(what: str, trained: list[Trained]) -> None:
    """The third table."""
    say(f"{what}: {sum(one.parts['test'].height for one in trained):,} test rows without some fields")
    say(f"{'without':<42}{'MAE':>9}{'paid by price':>15}{'within':>9}{'width by price':>16}")
    for unknown in UNKNOWN:
        lines = []
        for one in trained:
            test = one.parts["test"]
            price, found = test["price"].to_numpy(), one.bundle.estimate(without(test, unknown))
            within = coverage(price, found)["coverage"]
            width = float(((found.high - found.low) / found.prices).mean())  # type: ignore[operator]
            lines.append((score(price, found.prices)["mae"], np.median(price / found.prices), within, width))
        mae, ratio, within, width = np.mean(lines, axis=0)
        name = "all of them" if len(unknown) == len(FIELDS) else ", ".join(unknown) or "-"
        say(f"{name:<42}{mae:>9,.0f}{ratio:>15.2f}{within:>9.1%}{width:>16.2f}")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.coverage", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the recorded batches (default: %(default)s)")
    parser.add_argument("--synthetic-scale", type=float, default=0.3, help="of the others (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=40, help="splits of recorded batch 3 (default: %(default)s)")
    parser.add_argument("--complete", action="store_true", help="train on complete rows alone")
    parser.add_argument("--only", choices=("recorded", "synthetic"), help="these listings alone")
    options = parser.parse_args()
    if options.complete:
        hidden.SHARE = 0.0
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder and options.only != "synthetic":
        whole = train(recorded_batches(Path(folder), options.scale), settings())
        segments_table(whole)
        unknown_table("recorded batches", [whole])
        one_batch = splits(Path(folder), options.seeds)
        splits_table(one_batch)
        unknown_table(f"recorded batch {WHOLE}, {options.seeds} splits", one_batch)
    elif options.only != "synthetic":
        say("HOUSE_RECORDING_DIR names no folder of recorded listings: their tables are left out")
    if options.only == "recorded":
        return
    numbers = [shape.number for shape in synthetic.SHAPES]
    drawn = train(batches({at: synthetic.generate(at, SEED, options.synthetic_scale)[0] for at in numbers}), settings())
    unknown_table(f"synthetic batches at scale {options.synthetic_scale:g}", [drawn])


if __name__ == "__main__":
    main(_main)
