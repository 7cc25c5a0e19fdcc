"""Measures the cost of a training as batches accumulate: `python -m tests.bench.growth`.

There are six synthetic batches. Their train splits have `--sizes` million rows together. Five batches were encoded
before, the last one is new. Each training runs in its own process, as in a pod. The table has the seconds to encode the
rows of the new batch, the seconds of everything else, those of boosting, and the peak memory. The ratio is everything
else divided by the time of boosting. The number of rounds is fixed, and smaller than in real trainings: more
rounds make the ratio smaller.

`--modes` measures the error of the three training modes instead: after each batch, on the test rows of all batches so
far.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ci.common.console import main, say
from core.model.bundle import load_bundle
from core.stores import layout
from core.stores.objects import open_store
from datasource import synthetic
from datasource.settings import DatasourceSettings
from pipeline import rows
from pipeline.evaluation.scores import score
from pipeline.outcome import peak_mib
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings
from pipeline.training import boosting, encoded, trainer
from pipeline.training.encoded import Part
from pipeline.training.sold import read_sold
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows

NUMBERS = [shape.number for shape in synthetic.SHAPES]
TOO_SMALL = 3  # number of the batch that is too small; its rows count in the next training
SEED = DatasourceSettings().seed
SIZES = [0.1, 0.3, 1, 1.76, 2.2]


def settings(**changes: Any) -> PipelineSettings:
    return PipelineSettings.model_construct(**changes)


def lay_out(folder: Path, train_rows: int) -> None:
    """Write clean splits, as stage split does."""
    store = open_store(folder.as_uri())
    scale = train_rows / (0.7 * sum(shape.rows for shape in synthetic.SHAPES))
    for number in NUMBERS:
        for name, part in split(valid_rows(synthetic.generate(number, SEED, scale)[0])).items():
            rows.write(store, layout.clean_key(number, name), part)


def measure_one(folder: Path, rounds: int) -> None:
    """Train on these splits, and print the cost as JSON."""
    store, spent = open_store(folder.as_uri()), 0.0
    began = time.perf_counter()
    new_rows, _ = (len(encoded.read(store, NUMBERS[-1], name)) for name in rows.SPLITS[:2])
    own = time.perf_counter() - began

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            done = work(*arguments, **named)
            spent += time.perf_counter() - start
            return done

        return run

    trainer.boost = timed(boosting.boost)
    began = time.perf_counter()
    train, validation = (rows.defer_split(store, NUMBERS, name, encoded.read) for name in rows.SPLITS[:2])
    test = rows.defer_split(store, NUMBERS, "test", rows.read_batch)
    sold = [partial(read_sold, store, number) for number in NUMBERS]
    data = TrainingData(train, encoded.total_sums(train), validation, test, sold)
    counts = {"new_rows": new_rows} | data.counts()
    with tempfile.TemporaryDirectory() as bundle:
        train_model(data, settings(num_boost_round=rounds, early_stopping_rounds=rounds), Path(bundle))
    cost = {"own": own, "all": time.perf_counter() - began, "boosting": spent}
    print(json.dumps(counts | cost | {"peak": peak_mib()}))


def growth(sizes: list[float], rounds: int) -> None:
    """Print the table of costs."""
    say(f"{'train rows':>11}{'new rows':>10}{'own rows':>10}{'all else':>10}{'boosting':>10}{'ratio':>8}{'peak':>10}")
    for millions in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay_out(folder, round(millions * 1e6))
            store = open_store(folder.as_uri())
            for number in NUMBERS[:-1]:
                for part in ("train", "validation"):
                    encoded.read(store, number, part)  # type: ignore[arg-type]
            command = [sys.executable, "-m", "tests.bench.growth", "--one", name, "--rounds", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = json.loads(done.stdout.strip().splitlines()[-1])
        say(f"{cost['train_rows']:>11,}{cost['new_rows']:>10,}{cost['own']:>8.1f} s{cost['all']:>8.1f} s"
            f"{cost['boosting']:>8.1f} s{cost['all'] / cost['boosting']:>8.2f}{cost['peak']:>7.0f} MB")  # fmt: skip


def modes(scale: float, window: int) -> None:
    """Print the table of errors: MAE over the floor, and the seconds of the training."""
    say(f"synthetic batches at scale {scale:g}: MAE over the floor on all test rows so far (seconds of training)")
    kinds = ("full", "window", "continue")
    say(f"{'after':>6}" + "".join(f"{kind:>18}" for kind in kinds))
    parts: dict[int, dict[rows.Split, pl.DataFrame]] = {}
    floors: dict[int, float] = {}
    champion: tuple[str, list[int]] | None = None
    for number in NUMBERS:
        listings, floor = synthetic.generate(number, SEED, scale)
        parts[number], floors[number] = split(valid_rows(listings)), floor.mae
        if number == TOO_SMALL:
            continue
        line, models = f"{number:>6}", {}
        test = pl.concat([part["test"] for part in parts.values()])
        best = sum(part["test"].height * floors[at] for at, part in parts.items()) / test.height
        encoded_parts = {at: Deferred.of(Part.of(part["train"])) for at, part in parts.items()}
        for kind in kinds:
            chosen, start = list(parts), None
            if kind == "window":
                chosen = chosen[-window:]
            elif kind == "continue" and champion:
                start, chosen = champion[0], [at for at in parts if at not in champion[1]]
            validation = [Deferred.of(Part.of(part["validation"])) for part in parts.values()]
            data = TrainingData(
                [encoded_parts[at] for at in chosen],
                encoded.total_sums(encoded_parts.values()),
                validation,
                [Deferred.of(test)],
            )
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                train_model(data, settings(), Path(folder), start)
                seconds = time.perf_counter() - began
                predicted = load_bundle(Path(folder)).predict(test)
                models[kind] = (Path(folder) / "model.txt").read_text()
            mae = score(test["price"].to_numpy(), np.asarray(predicted))["mae"]
            line += f"{f'{mae / best:.3f} ({seconds:.0f} s)':>18}"
        champion = models["continue"], list(parts)
        say(line)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="millions of train rows")
    parser.add_argument("--rounds", type=int, default=200, help="rounds of boosting (default: %(default)s)")
    parser.add_argument("--modes", action="store_true", help="compare the training modes")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of the batches for --modes (default: %(default)s)"
    )
    parser.add_argument("--window", type=int, default=3, help="batches of the mode window (default: %(default)s)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_one(options.one, options.rounds)
    elif options.modes:
        modes(options.scale, options.window)
    else:
        growth(options.sizes, options.rounds)


if __name__ == "__main__":
    main(_main)
