"""Reading and writing of rows in the object store. `core.stores.layout` builds the keys."""

from __future__ import annotations

import io
from typing import Literal

import polars as pl

from core.stores import layout
from core.stores.objects import Store

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def reports(store: Store, number: int) -> dict[str, str]:
    """The validation report of a batch, by file name; empty if a release without reports validated the batch."""
    keys = {f"validation.{kind}": layout.report_key(number, kind) for kind in ("json", "html")}
    return {name: store.get(key).decode() for name, key in keys.items() if store.exists(key)}


def write(store: Store, key: str, frame: pl.DataFrame) -> str:
    """Store a frame as Parquet. The same rows give the same bytes."""
    content = io.BytesIO()
    frame.write_parquet(content, compression="zstd", statistics=True)
    return store.put(key, content.getvalue())


def read(store: Store, key: str) -> pl.DataFrame:
    """Read a stored frame."""
    return pl.read_parquet(io.BytesIO(store.get(key)))


def read_split(store: Store, numbers: list[int], split: Split) -> pl.DataFrame:
    """The rows of one split of several batches, in the order of `numbers`."""
    return pl.concat([read(store, layout.clean_key(number, split)) for number in numbers])
