"""Stores clean rows as numbers, per batch, so that a training encodes the rows of new batches only.

The features of a row need encodings, which depend on other batches. Encodings are computed from sums, and the sums of
a batch are stored with its rows. A stored object is rebuilt when the clean rows or the definition of features changed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.features.columns import FEATURES, FINGERPRINT, TARGET
from core.features.encodings import COLUMNS
from core.features.hashing import folds
from core.features.sums import Sums, from_arrays, to_arrays
from core.features.training import fill, fit_folds, sums_of
from core.features.unencoded import Columns
from core.stores import layout
from core.stores.objects import Store
from pipeline import rows
from pipeline.training.masking import masked_fields


@dataclass(frozen=True)
class Part:
    """Clean rows of one split of a batch, without the encodings, which depend on other batches."""

    columns: Columns
    price: np.ndarray  # float64, (rows,), US dollars
    fold: np.ndarray  # uint8, (rows,)
    sums: Sums

    @staticmethod
    def of(listings: pl.DataFrame) -> Part:
        """Encode clean rows, given in `RAW_SCHEMA`."""
        columns, price, fold = Columns.of(listings), listings[TARGET].to_numpy(), folds(listings)
        return Part(columns, price, fold, sums_of(columns, price, fold))


def read(store: Store, number: int, split: rows.Split) -> Part:
    """Read the encoded rows of a split. Rows that are not stored, or outdated, are encoded and stored."""
    clean = layout.clean_key(number, split)
    key = layout.encoded_key(number, split)
    source = f"{FINGERPRINT} {store.version(clean)}"
    if store.exists(key):
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as stored:
            if str(stored["made_of"]) == source:
                return _part({name: stored[name] for name in stored.files})
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
    return arrays | {f"sums {name}": values for name, values in to_arrays(part.sums).items()}


def _part(arrays: dict[str, np.ndarray]) -> Part:
    keys = {name: arrays[f"keys {name}"].tolist() for name in COLUMNS}
    columns = Columns(arrays["plain"], keys, {name: arrays[f"codes {name}"] for name in COLUMNS})
    sum_arrays = {name.removeprefix("sums "): values for name, values in arrays.items() if name.startswith("sums ")}
    return Part(columns, arrays["price"], arrays["fold"], from_arrays(keys, sum_arrays))


def training_matrix(parts: list[Part], total: Sums, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Feature matrix of training rows, float32 (rows, len(FEATURES)), and whether each is complete, bool (rows,).

    A row is complete if none of its fields is masked; `seed` draws the masks (`pipeline.training.masking`). Empties
    `parts`, to free the memory of each part once its rows are in the matrix.
    """
    row_count = sum(len(part.price) for part in parts)
    out, whole = np.empty((row_count, len(FEATURES)), dtype=np.float32), np.empty(row_count, dtype=bool)
    learned, begin = fit_folds(total), 0
    while parts:
        part = parts.pop(0)
        end = begin + len(part.price)
        masks = masked_fields(part.columns, seed)
        fill(out[begin:end], part.columns.without(masks), part.fold, learned)
        whole[begin:end] = ~np.any(list(masks.values()), axis=0)
        begin = end
    return out, whole
