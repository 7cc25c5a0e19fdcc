"""A bundle gets the newest sales of all batches, the same ones however they are divided into batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from core.listing.parsing import parse_listings
from core.model.bundle import load_bundle
from core.model.sales import day_of
from core.stores import layout
from core.stores.objects import open_store
from datasource import synthetic
from pipeline import rows
from pipeline.settings import PipelineSettings
from pipeline.training.sold import MAX_SALES, collect_sales, read_sold, sold_listings
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows


def listings(count: int) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    return parse_listings(
        [
            {
                "status": ["sold", "sold", "for_sale", None][at % 4],
                "state": "Ohio",
                "city": f"City {draw.integers(9)}",
                "zip_code": int(draw.integers(20)),
                "street": at,
                "price": int(draw.integers(1_000, 9_000)),
                "prev_sold_date": [f"20{draw.integers(10, 22)}-0{draw.integers(1, 9)}-17", None, "soon"][at % 5 % 3],
            }
            for at in range(count)
        ]
    )


def batches(frame: pl.DataFrame, ends: list[int]) -> list[Callable[[], pl.DataFrame]]:
    """Batches of a frame that end at these rows. A second read of one fails, because each read costs a download."""
    iterators = [iter([part]) for part in (frame[begin:end] for begin, end in zip([0, *ends], ends, strict=False))]
    return [lambda iterator=iterator: sold_listings(next(iterator).lazy()).collect() for iterator in iterators]  # type: ignore[misc]


@pytest.mark.parametrize("most", [1, 50, 10_000])
def test_division_into_batches_does_not_matter(most: int) -> None:
    frame = listings(400)
    first = collect_sales(batches(frame, [400]), most).to_files()
    for ends in ([1, 2, 400], [200, 400], [0, 399, 400]):
        assert collect_sales(batches(frame, ends), most).to_files() == first


def test_newest_sales_are_kept_and_others_than_sold_listings_are_not() -> None:
    frame = listings(400)
    table = collect_sales(batches(frame, [100, 400]), 60)
    days = sorted(str(day) for day in frame.filter(status="sold")["prev_sold_date"] if str(day).startswith("20"))
    assert sorted(str(day_of(sold)) for sold in table.rows["sold"]) == days[-60:]
    everything = collect_sales(batches(frame, [400]))
    assert len(everything) == 200
    assert len(collect_sales([])) == 0


def test_listing_that_two_brokers_offered_counts_once() -> None:
    one: dict[str, Any] = {"status": "sold", "street": 7, "state": "Ohio", "price": 200_000, "brokered_by": 1}
    twice = parse_listings([one, one | {"brokered_by": 2}, one | {"street": 8}])
    assert len(collect_sales(batches(twice, [1, 3]))) == 2


def test_sales_are_read_from_the_training_rows_of_a_batch(tmp_path: Path) -> None:
    store, frame = open_store(tmp_path.as_uri()), listings(100)
    rows.write(store, layout.clean_key(2, "train"), frame)
    assert read_sold(store, 2).equals(sold_listings(frame.lazy()).collect())


def test_trained_bundle_has_the_sold_training_listings(tmp_path: Path) -> None:
    parts = split(valid_rows(synthetic.generate(4, seed=7, scale=0.003)[0]).with_columns(status=pl.lit("sold")))
    train_model(TrainingData.of(parts), PipelineSettings.model_construct(num_threads=1, num_boost_round=5), tmp_path)
    sales = load_bundle(tmp_path).sales
    assert sales is not None
    train = parts["train"]
    assert sorted(sales.rows["price"].tolist()) == sorted(train["price"].round().cast(pl.Int64).to_list())
    assert MAX_SALES * sales.rows.itemsize <= 10_000_000, "the size that the documentation gives"
