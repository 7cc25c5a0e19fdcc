"""Collects the sold listings of the training for the sales table of a bundle, one batch in memory at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import polars as pl

from core.listing.schema import RANGES, RAW_SCHEMA
from core.model.sales import SalesTable, sale_day, sales_table
from core.stores import layout
from core.stores.objects import Store

MAX_SALES = 500_000  # in a bundle: 10 MB. Older sales are left out.
STATUS = "sold"
_COLUMNS = [name for name in RAW_SCHEMA if name not in ("brokered_by", "status")]
_ORDER = ["prev_sold_date", *(name for name in _COLUMNS if name != "prev_sold_date")]  # the same in every training


def read_sold(store: Store, number: int) -> pl.DataFrame:
    """The sold listings among the clean training rows of a batch."""
    return sold_listings(pl.scan_parquet(io.BytesIO(store.get(layout.clean_key(number, "train"))))).collect()


def sold_listings(listings: pl.LazyFrame) -> pl.LazyFrame:
    """The sold listings, without columns that a similar sale does not need. An impossible date becomes null."""
    sold = listings.filter(pl.col("status") == STATUS, pl.col("price").is_between(*RANGES["price"]))
    return sold.select(_COLUMNS).with_columns(sale_day().dt.to_string("%Y-%m-%d").alias("prev_sold_date"))


def collect_sales(batches: Iterable[Callable[[], pl.DataFrame]], most: int = MAX_SALES) -> SalesTable:
    """The newest sales of all batches, at most `most`; a listing that two brokers offered counts once.

    Args:
        batches: each returns the sold listings of a batch (`read_sold`). It is called once.
        most: number of sales, at most. Sales without a date are left out first.
    """
    kept = pl.DataFrame(schema={name: RAW_SCHEMA[name] for name in _COLUMNS})
    for read in batches:
        kept = pl.concat([kept, read()]).unique().sort(_ORDER, descending=True, nulls_last=True).head(most)
    return sales_table(kept)
