"""The search that chose the default hyperparameters: `python -m tests.bench.search`.

The objective is the relative error on validation rows, divided by the error with the current settings. It is the mean
over recorded batch 3 with three splits (HOUSE_RECORDING_DIR) and a sample of the synthetic batches. Trials are stored
in `--folder`, so an interrupted search continues.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from ci.common.console import main, say
from core.stores.objects import open_store
from datasource import recorded, synthetic
from datasource.settings import DatasourceSettings
from pipeline.rows import SPLITS, Deferred
from pipeline.settings import PipelineSettings
from pipeline.training.encoded import Part
from pipeline.training.search import SPACE, relative_error, search
from pipeline.training.splits import split
from pipeline.validation.row_checks import valid_rows
from tests.kit.trainings import WHOLE, Parts, settings, shuffled

SEED = DatasourceSettings().seed


def error_on(parts: Parts) -> Callable[[PipelineSettings], float]:
    train, validation = ([Deferred.of(Part.of(parts[name]))] for name in SPLITS[:2])
    return relative_error(train, validation, settings().seed)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search", description=__doc__)
    parser.add_argument("--trials", type=int, default=25, help="default: %(default)s")
    parser.add_argument(
        "--scale", type=float, default=0.1, help="scale of the synthetic batches (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for the trials")
    options = parser.parse_args()
    batches = [
        split(valid_rows(synthetic.generate(shape.number, SEED, options.scale)[0])) for shape in synthetic.SHAPES
    ]
    whole: Parts = {name: pl.concat([batch[name] for batch in batches]) for name in SPLITS}
    errors = [error_on(whole)]
    folder = os.environ.get("HOUSE_RECORDING_DIR")
    if folder:
        listings = valid_rows(recorded.load(Path(folder), WHOLE, SEED))
        errors += [error_on(shuffled(listings, seed)) for seed in range(3)]
    now = [error(settings()) for error in errors]
    weights = [1.0, *[1 / (len(errors) - 1)] * (len(errors) - 1)]

    def objective(tried: PipelineSettings) -> float:
        shares = [error(tried) / before for error, before in zip(errors, now, strict=True)]
        return sum(share * weight for share, weight in zip(shares, weights, strict=True)) / sum(weights)

    store = open_store(options.folder.absolute().as_uri())
    best = search(objective, settings(), options.trials, store, "defaults")
    say(f"best: { ({name: getattr(best, name) for name in SPACE}) }")


if __name__ == "__main__":
    main(_main)
