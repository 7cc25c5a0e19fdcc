"""Stage 3: clean rows, 70/15/15, by a hash of the listing.

The same listing falls into the same split whenever and in whatever order it comes, so no row of the holdout is ever
trained on.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import polars as pl

from pipeline import rows
from pipeline.context import Context
from pipeline.rows import SPLITS, Split
from pipeline.rules import valid_rows

_SHARES: dict[Split, float] = {"train": 0.70, "validation": 0.15, "test": 0.15}
# What makes two rows the same listing; its price, status and broker may change.
_IDENTITY = ("street", "city", "state", "zip_code", "bed", "bath", "acre_lot", "house_size")
_BUCKETS = 10_000


def run(context: Context, batch: int) -> dict[str, Any]:
    """Write the clean splits of a validated batch."""
    known = context.ledger.batch(batch)
    parts = split(valid_rows(rows.read(context.store, known.raw_key)))
    for name in SPLITS:
        rows.write(context.store, rows.clean_key(batch, name), parts[name])
    context.ledger.set_split(known)
    counts = {name: part.height for name, part in parts.items()}
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return {"splits": counts, "summary": f"batch {batch}: {told}"}


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
