"""Small real models of house prices, trained in a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from core.features.training import training_features
from core.listing.parsing import parse_listings
from core.model.booster import Booster
from core.model.bundle import Bundle, golden_sample, load_bundle, write_bundle
from core.model.estimates import baseline
from core.model.sales import sales_table
from pipeline.training.calibration import calibrate
from pipeline.training.encoded import Part
from predictor.pricing.listing import STATES


def listings(rows: int = 400) -> pl.DataFrame:
    """Listings whose price depends on size and state."""
    draw = np.random.default_rng(7)
    size, state = draw.integers(500, 4000, rows), draw.integers(0, 8, rows)
    return parse_listings(
        [
            {
                "status": "for_sale",
                "price": 100.0 * size[i] * (1 + 0.1 * state[i]),
                "bed": int(draw.integers(1, 6)),
                "bath": int(draw.integers(1, 4)),
                "acre_lot": 0.25,
                "house_size": int(size[i]),
                "state": STATES[state[i]],
                "city": f"City {state[i]}",
                "zip_code": f"{state[i] * 1000 + 1:05}",
                "brokered_by": i % 20,
                "street": i,
                "prev_sold_date": f"20{i % 20:02}-05-17",
            }
            for i in range(rows)
        ]
    )


@dataclass(frozen=True)
class Model:
    """A bundle on disk and the sha256 of its manifest."""

    folder: Path
    sha256: str
    bundle: Bundle


def train(folder: Path, rounds: int) -> Model:
    rows = listings()
    matrix, encodings = training_features(rows)
    data = lightgbm.Dataset(matrix, np.log(rows["price"].to_numpy()) - baseline(matrix))
    booster = lightgbm.train({"objective": "regression", "num_leaves": 15, "verbose": -1, "seed": 1}, data, rounds)
    text = booster.model_to_string()
    intervals = calibrate(Booster(text), encodings, [Part.of(rows)])
    sales = sales_table(rows.with_columns(status=pl.lit("sold")))
    sha256 = write_bundle(folder, text, encodings, golden_sample(rows), intervals, sales)
    return Model(folder, sha256, load_bundle(folder))
