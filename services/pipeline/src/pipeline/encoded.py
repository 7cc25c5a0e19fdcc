"""Clean rows as numbers, kept per batch: a training encodes the rows of new batches only.

What a row's features need from other batches, the encodings, is computed from sums, and the sums of a batch are kept
with its rows. An object is made anew where the clean rows or the definition of features changed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.encodings import COLUMNS, Sums, from_arrays, to_arrays
from core.features import FEATURES, FINGERPRINT, TARGET, Columns, fill, fit_folds, folds, sums
from core.storage import Store
from pipeline import rows
from pipeline.hidden import hidden


@dataclass(frozen=True)
class Part:
    """Clean rows of one split of a batch, without what other batches teach about them."""

    columns: Columns
    price: np.ndarray  # float64, (rows,), US dollars
    fold: np.ndarray  # uint8, (rows,)
    sums: Sums

    @staticmethod
    def of(listings: pl.DataFrame) -> Part:
        """A part of clean rows in `RAW_SCHEMA`."""
        columns, price, fold = Columns.of(listings), listings[TARGET].to_numpy(), folds(listings)
        return Part(columns, price, fold, sums(columns, price, fold))


def read(store: Store, number: int, split: rows.Split) -> Part:
    """The part of a batch, as it was kept, or made of the clean rows and kept."""
    clean = rows.clean_key(number, split)
    key = f"encoded/{number:04d}/{split}.npz"
    made_of = f"{FINGERPRINT} {store.version(clean)}"
    if store.exists(key):
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as kept:
            if str(kept["made_of"]) == made_of:
                return _part({name: kept[name] for name in kept.files})
    part = Part.of(rows.read(store, clean))
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, made_of=np.array(made_of), **_arrays(part))
    store.put(key, content.getvalue())
    return part


def _arrays(part: Part) -> dict[str, np.ndarray]:
    found = {"plain": part.columns.plain, "price": part.price, "fold": part.fold}
    for name in COLUMNS:
        found[f"codes {name}"] = part.columns.codes[name]
        found[f"keys {name}"] = np.array(part.columns.keys[name])
    return found | {f"sums {name}": values for name, values in to_arrays(part.sums).items()}


def _part(kept: dict[str, np.ndarray]) -> Part:
    keys = {name: kept[f"keys {name}"].tolist() for name in COLUMNS}
    columns = Columns(kept["plain"], keys, {name: kept[f"codes {name}"] for name in COLUMNS})
    known = {name.removeprefix("sums "): values for name, values in kept.items() if name.startswith("sums ")}
    return Part(columns, kept["price"], kept["fold"], from_arrays(keys, known))


def training_matrix(parts: list[Part], known: Sums, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Feature matrix of training rows, float32 (rows, len(FEATURES)), and which of them are complete, bool (rows,).

    Each part is let go when it is written. `seed` draws what is hidden (`pipeline.hidden`).
    """
    rows_in_all = sum(len(part.price) for part in parts)
    out, whole = np.empty((rows_in_all, len(FEATURES)), dtype=np.float32), np.empty(rows_in_all, dtype=bool)
    learned, begin = fit_folds(known), 0
    while parts:
        part = parts.pop(0)
        end = begin + len(part.price)
        taken = hidden(part.columns, seed)
        fill(out[begin:end], part.columns.without(taken), part.fold, learned)
        whole[begin:end] = ~np.any(list(taken.values()), axis=0)
        begin = end
    return out, whole
