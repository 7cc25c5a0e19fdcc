"""Adds the encodings to encoded rows: feature matrices for the trees, in pieces or of chosen rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.features.columns import FEATURES
from core.features.encodings import Encodings
from core.features.matrix import matrix
from core.features.sums import Sums
from core.features.training import fill, fit_folds
from pipeline.rows import Deferred
from pipeline.training.encoded import Part
from pipeline.training.masking import masked_fields
from pipeline.training.pieces import pieces, select


@dataclass(frozen=True)
class Rows:
    """Rows with their features."""

    features: np.ndarray  # float32, (rows, len(FEATURES))
    price: np.ndarray  # float64, (rows,), US dollars

    def __len__(self) -> int:
        return len(self.price)


@dataclass(frozen=True)
class FeatureRows:
    """Rows of several batches, whose features are computed each time they are read."""

    parts: Sequence[Deferred[Part]]
    encode: Callable[[Part], np.ndarray]

    @staticmethod
    def of_training(parts: Iterable[Deferred[Part]], total: Sums, seed: int) -> FeatureRows:
        """Rows that are part of the sums `total`, some with masked fields (`pipeline.training.masking`).

        Each row is encoded with the sums of the other folds. `seed` draws the masks.
        """
        learned = fit_folds(total)

        def encode(part: Part) -> np.ndarray:
            out = np.empty((len(part), len(FEATURES)), dtype=np.float32)
            fill(out, part.columns.without(masked_fields(part.columns, seed)), part.fold, learned)
            return out

        return FeatureRows(_looked_up(parts, learned[0]), encode)

    @staticmethod
    def of_unseen(parts: Iterable[Deferred[Part]], encodings: Encodings) -> FeatureRows:
        """Rows that the encodings were not fitted on."""
        return FeatureRows(_looked_up(parts, encodings), lambda part: matrix(part.columns, encodings))

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(part.count for part in self.parts)

    def pieces(self) -> list[Deferred[Rows]]:
        """All rows, in pieces."""
        return [piece.then(self._rows) for piece in pieces(self.parts)]

    def select(self, positions: np.ndarray) -> Rows:
        """The rows at some positions, ascending, at least one."""
        chosen = [self._rows(part) for part in select(self.parts, positions)]
        return Rows(np.concatenate([rows.features for rows in chosen]), np.concatenate([rows.price for rows in chosen]))

    def _rows(self, part: Part) -> Rows:
        return Rows(self.encode(part), part.price)


def _looked_up(parts: Iterable[Deferred[Part]], encodings: Encodings) -> list[Deferred[Part]]:
    """The same rows. Their categories are looked up once per batch and not once per piece."""
    return [part.then(lambda rows: rows.learned(encodings)) for part in parts]
