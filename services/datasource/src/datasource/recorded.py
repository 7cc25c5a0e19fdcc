"""Recorded listings of the real service.

Only bed, bath, acre_lot, house_size and price were recorded for all batches (0 to 4). Batch 3 was recorded with all
columns. The other columns are drawn independently of the price, so they cannot improve a model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from datasource.listings import BROKERS, COLUMNS, SHAPES, dates, draw_places, draw_sale_days, place_columns

NUMERIC = "house_numeric_batches.parquet"
WHOLE = {3: "batch_3.csv.gz"}
REAL_COLUMNS = ("bed", "bath", "acre_lot", "house_size", "price")
DRAWN_COLUMNS = tuple(name for name in COLUMNS if name not in REAL_COLUMNS)
NUMBERS = (0, 1, 2, 3, 4)


def load(folder: Path, number: int, seed: int, scale: float = 1.0) -> pl.DataFrame:
    """Rows of one recorded batch in their order, or a sample of them if `scale` is below 1.

    Raises:
        FileNotFoundError: the folder has no recording of this batch.
    """
    if number in WHOLE:
        frame = pl.read_csv(folder / WHOLE[number], schema_overrides={"prev_sold_date": pl.String}).select(COLUMNS)
        frame = frame.with_columns(pl.col(pl.Int64).cast(pl.Float64))
    else:
        numeric = pl.scan_parquet(folder / NUMERIC).filter(pl.col("batch_number") == number).sort("row").collect()
        frame = _complete(numeric.select(REAL_COLUMNS), number, seed)
    if scale < 1:
        rng = np.random.default_rng([seed, number, 2])
        kept = np.sort(rng.choice(frame.height, max(1, round(frame.height * scale)), replace=False))
        frame = frame[kept]
    return frame


def _complete(numeric: pl.DataFrame, number: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng([seed, number, 1])
    shape, rows = SHAPES[number], numeric.height
    drawn = pl.DataFrame(
        {
            "brokered_by": rng.integers(1, BROKERS, rows).astype(np.float64),
            "status": rng.choice(np.array(shape.statuses), rows),
            "street": rng.integers(1, 2_000_000, rows).astype(np.float64),
            **place_columns(draw_places(rng, rows, shape.states)),
            "prev_sold_date": dates(draw_sale_days(rng, rows)),
        }
    )
    return pl.concat([numeric, drawn], how="horizontal").select(COLUMNS)
