"""Reading and writing of rows in the object store. `core.stores.layout` builds the keys."""

from __future__ import annotations

import io
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

import polars as pl

from core.stores import layout
from core.stores.objects import Store

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Kind = TypeVar("Kind", bound=Sized)
Other = TypeVar("Other", bound=Sized)


@dataclass(frozen=True)
class Deferred(Generic[Kind]):
    """Rows that are read each time they are needed, so that not all batches are in memory together."""

    count: int
    read: Callable[[], Kind]

    @staticmethod
    def of(rows: Kind) -> Deferred[Kind]:
        """Rows that are in memory already."""
        return Deferred(len(rows), lambda: rows)

    def then(self, change: Callable[[Kind], Other]) -> Deferred[Other]:
        """The same rows in another form, which is computed at each read."""
        return Deferred(self.count, lambda: change(self.read()))


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


def read_batch(store: Store, number: int, split: Split) -> pl.DataFrame:
    """The clean rows of one split of a batch."""
    return read(store, layout.clean_key(number, split))


def defer_split(
    store: Store, numbers: list[int], split: Split, read_batch: Callable[[Store, int, Split], Kind]
) -> list[Deferred[Kind]]:
    """The rows of one split of several batches, in the order of `numbers`, each read by `read_batch`.

    The counts come from the clean rows, of which only the number is decoded.
    """
    return [
        Deferred(_count(store, layout.clean_key(number, split)), partial(read_batch, store, number, split))
        for number in numbers
    ]


def _count(store: Store, key: str) -> int:
    return int(pl.scan_parquet(io.BytesIO(store.get(key))).select(pl.len()).collect().item())
