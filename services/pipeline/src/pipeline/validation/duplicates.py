"""Counts rows that are in another batch, too. Keeps eight bytes per valid row of each batch."""

from __future__ import annotations

from hashlib import blake2b

import polars as pl

from core.listing.schema import RAW_SCHEMA
from core.stores import layout
from core.stores.objects import Store
from pipeline import rows


def count_repeated(store: Store, batch: int, valid: pl.DataFrame) -> int:
    """Number of valid rows of a batch that are in another batch, too. Stores the hashes of this batch's rows."""
    text = valid.select(
        pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in RAW_SCHEMA], separator="|")
    ).to_series()
    hashes = [int.from_bytes(blake2b(row.encode(), digest_size=8).digest()) for row in text]
    fingerprints = pl.Series("fingerprint", hashes, pl.UInt64)
    own = layout.fingerprints_key(batch)
    rows.write(store, own, fingerprints.to_frame())
    others = [rows.read(store, key) for key in store.keys(layout.FINGERPRINTS) if key != own]
    return int(fingerprints.is_in(pl.concat(others)["fingerprint"].implode()).sum()) if others else 0
