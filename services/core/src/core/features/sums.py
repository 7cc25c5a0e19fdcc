"""Sums over training rows, from which the encodings are fitted.

Sums of batches can be added, and they are kept apart per fold, so that a row can be encoded with the other folds: its
own price never reaches its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from core.features.encodings import BROKER, COLUMNS, EFFECTS, FOLDS, Key, in_order, positions


@dataclass(frozen=True)
class Sums:
    """Sums over rows of z = (1, x, y), y the logarithm of the price; d is the length of z."""

    keys: Mapping[str, Sequence[Key]]  # categories by column, sorted
    cells: np.ndarray  # int64, (cells, len(EFFECTS)): positions in keys; len(keys) where unknown
    cell: np.ndarray  # float64, (cells, FOLDS, d): sum of z
    broker: np.ndarray  # float64, (brokers + 1, FOLDS, d): sum of z; the last entry is for rows without broker
    moments: np.ndarray  # float64, (FOLDS, d, d): sum of z z'

    @staticmethod
    def of(keys: Mapping[str, Sequence[Key]], codes: Mapping[str, np.ndarray], z: np.ndarray, fold: np.ndarray) -> Sums:
        """Sums of rows.

        Args:
            keys: categories by column, sorted.
            codes: positions in `keys` by column, (rows,); len(keys) where unknown.
            z: float64, (rows, d).
            fold: (rows,), below FOLDS.
        """
        cells, cell_of = _cells(keys, np.stack([codes[name] for name in EFFECTS], axis=1))
        moments = np.stack([z[fold == at].T @ z[fold == at] for at in range(FOLDS)])
        cell, broker = (
            _sums(group, groups, fold, z)
            for group, groups in ((cell_of, len(cells)), (codes[BROKER], len(keys[BROKER]) + 1))
        )
        return Sums(keys, cells, cell, broker, moments)

    @staticmethod
    def total(parts: Iterable[Sums]) -> Sums:
        """Sums of the rows of all parts, at least one. Two are in memory at a time, if `parts` is a generator."""
        return reduce(Sums._plus, parts)

    def _plus(self, other: Sums) -> Sums:
        parts = self, other
        keys = {name: in_order({key for part in parts for key in part.keys[name]}) for name in COLUMNS}
        new = [{name: positions(part.keys[name], keys[name]) for name in COLUMNS} for part in parts]
        every = np.concatenate(
            [
                np.stack([position[name][part.cells[:, at]] for at, name in enumerate(EFFECTS)], axis=1)
                for part, position in zip(parts, new, strict=True)
            ]
        )
        cells, cell_of = _cells(keys, every)
        width = parts[0].moments.shape[-1]
        cell, broker = (np.zeros((rows, FOLDS, width)) for rows in (len(cells), len(keys[BROKER]) + 1))
        begin = 0
        for part, position in zip(parts, new, strict=True):
            cell[cell_of[begin : begin + len(part.cells)]] += part.cell  # the cells of one part are distinct
            broker[position[BROKER]] += part.broker
            begin += len(part.cells)
        return Sums(keys, cells, cell, broker, np.sum([part.moments for part in parts], axis=0))


def _cells(keys: Mapping[str, Sequence[Key]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows, and for each row the position of its distinct row."""
    sizes = [len(keys[name]) + 1 for name in EFFECTS]
    number = np.zeros(len(rows), dtype=np.int64)
    for at, size in enumerate(sizes):
        number = number * size + rows[:, at]
    unique, which = np.unique(number, return_inverse=True)
    cells = np.empty((len(unique), len(sizes)), dtype=np.int64)
    for at in reversed(range(len(sizes))):
        unique, cells[:, at] = np.divmod(unique, sizes[at])
    return cells, which


def _sums(group: np.ndarray, groups: int, fold: np.ndarray, z: np.ndarray) -> np.ndarray:
    where, length = group * FOLDS + fold, groups * FOLDS
    columns = [np.bincount(where, z[:, at], length) for at in range(z.shape[1])]
    return np.stack(columns, axis=1).reshape(groups, FOLDS, z.shape[1])
