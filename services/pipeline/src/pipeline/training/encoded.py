"""Stores clean rows as numbers, per batch, so that a training encodes the rows of new batches only.

The features of a row need encodings, which depend on other batches (`pipeline.training.features`). A stored object is
rebuilt when the clean rows or the definition of features changed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.features.columns import FINGERPRINT, TARGET
from core.features.encodings import COLUMNS, Encodings
from core.features.hashing import folds
from core.features.sums import Sums
from core.features.training import sums_of
from core.features.unencoded import Columns
from core.stores import layout
from core.stores.objects import Store
from pipeline import rows
from pipeline.rows import Deferred

_FORMAT = 2  # of a stored object; an object of another format is rebuilt


@dataclass(frozen=True)
class Part:
    """Clean rows of one split of a batch, without the encodings, which depend on other batches."""

    columns: Columns
    price: np.ndarray  # float64, (rows,), US dollars
    fold: np.ndarray  # uint8, (rows,)

    @staticmethod
    def of(listings: pl.DataFrame) -> Part:
        """Encode clean rows, given in `RAW_SCHEMA`."""
        return Part(Columns.of(listings), listings[TARGET].to_numpy(), folds(listings))

    def __len__(self) -> int:
        return len(self.price)

    def __getitem__(self, selection: slice | np.ndarray) -> Part:
        return Part(self.columns.take(selection), self.price[selection], self.fold[selection])

    def learned(self, encodings: Encodings) -> Part:
        """The same rows with codes of these encodings; see `Columns.learned`."""
        return Part(self.columns.learned(encodings), self.price, self.fold)

    def sums(self) -> Sums:
        """The sums from which encodings are fitted."""
        return sums_of(self.columns, self.price, self.fold)


def read(store: Store, number: int, split: rows.Split) -> Part:
    """Read the encoded rows of a split. Rows that are not stored, or outdated, are encoded and stored."""
    clean = layout.clean_key(number, split)
    key = layout.encoded_key(number, split)
    source = f"{_FORMAT} {FINGERPRINT} {store.version(clean)}"
    if store.exists(key):
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as stored:
            if str(stored["made_of"]) == source:
                return _part(stored)
    part = Part.of(rows.read(store, clean))
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, made_of=np.array(source), **_arrays(part))
    store.put(key, content.getvalue())
    return part


def _arrays(part: Part) -> dict[str, np.ndarray]:
    arrays = {"plain": part.columns.plain, "price": part.price, "fold": part.fold}
    for name in COLUMNS:
        arrays[f"codes {name}"] = part.columns.codes[name]
        arrays[f"keys {name}"] = np.array(part.columns.keys[name])
    return arrays


def _part(arrays: Mapping[str, np.ndarray]) -> Part:
    keys = {name: arrays[f"keys {name}"].tolist() for name in COLUMNS}
    columns = Columns(arrays["plain"], keys, {name: arrays[f"codes {name}"] for name in COLUMNS})
    return Part(columns, arrays["price"], arrays["fold"])


def total_sums(parts: Iterable[Deferred[Part]]) -> Sums:
    """The sums of the rows of all parts. One part is in memory at a time."""
    return Sums.total(part.read().sums() for part in parts)
