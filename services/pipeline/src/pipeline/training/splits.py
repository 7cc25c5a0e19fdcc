"""Assigns each listing to train, validation or test, 70/15/15, by a stable hash.

A listing falls into the same split in every batch and in any order, so no row of the holdout is ever trained on.
"""

from __future__ import annotations

from hashlib import blake2b

import polars as pl

from pipeline.rows import Split

_SHARES: dict[Split, float] = {"train": 0.70, "validation": 0.15, "test": 0.15}
# Two rows with equal values in these fields are the same listing. Its price, status and broker may change.
_IDENTITY = ("street", "city", "state", "zip_code", "bed", "bath", "acre_lot", "house_size")
_BUCKETS = 10_000


def split(listings: pl.DataFrame) -> dict[Split, pl.DataFrame]:
    """The rows of each split, in their order."""
    identity = pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in _IDENTITY], separator="|")
    text = listings.select(identity.alias("identity"))["identity"].to_list()
    bucket = pl.Series([_bucket(row) for row in text], dtype=pl.Int64)
    parts: dict[Split, pl.DataFrame] = {}
    begin = 0.0
    for name, share in _SHARES.items():
        end = begin + share * _BUCKETS
        parts[name] = listings.filter((bucket >= round(begin)) & (bucket < round(end)))
        begin = end
    return parts


def _bucket(identity: str) -> int:
    return int.from_bytes(blake2b(identity.encode(), digest_size=4).digest()) % _BUCKETS
