"""Features of training rows: out-of-fold encodings, so that the price of a row never reaches its own features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from core.features.columns import FEATURES, TARGET
from core.features.encodings import FOLDS, Encodings
from core.features.formulas import TYPICAL_PRICE
from core.features.hashing import folds
from core.features.matrix import hedonic_inputs_of_columns, matrix_at
from core.features.regression import fit
from core.features.sums import Sums
from core.features.unencoded import Columns


def sums_of(columns: Columns, price: np.ndarray, fold: np.ndarray) -> Sums:
    """The sums from which encodings are fitted.

    Args:
        columns: the training rows.
        price: dollars, (rows,).
        fold: from `folds`, (rows,).
    """
    x = hedonic_inputs_of_columns(columns.plain)
    z = np.stack([np.ones(len(price)), *x, np.log(price / TYPICAL_PRICE)], axis=1)
    return Sums.of({name: list(keys) for name, keys in columns.keys.items()}, columns.codes, z, fold)


def fit_encodings(train: pl.DataFrame) -> Encodings:
    """The encodings for serving, fitted on all training rows."""
    return fit(sums_of(Columns.of(train), train[TARGET].to_numpy(), folds(train)))


def training_features(train: pl.DataFrame) -> tuple[np.ndarray, Encodings]:
    """Feature matrix of training rows, and the encodings for serving."""
    columns, fold = Columns.of(train), folds(train)
    train_sums = sums_of(columns, train[TARGET].to_numpy(), fold)
    out = np.empty((train.height, len(FEATURES)), dtype=np.float32)
    fill(out, columns, fold, fit_folds(train_sums))
    return out, fit(train_sums)


def fit_folds(train_sums: Sums) -> list[Encodings]:
    """For each fold, the encodings fitted on all other folds."""
    return [fit(train_sums, without=fold) for fold in range(FOLDS)]


def fill(out: np.ndarray, columns: Columns, fold: np.ndarray, fitted: Sequence[Encodings]) -> None:
    """Write the feature matrix of training rows, (rows, len(FEATURES)), into `out`.

    Each fold is encoded with the encodings of the other folds (`fit_folds`).
    """
    # all folds have the same categories and differ in their effects only, so one look-up is enough
    categories = columns.positions_in(fitted[0])
    for held_out, encodings in enumerate(fitted):
        inside = np.flatnonzero(fold == held_out)
        of_fold = {name: places[inside] for name, places in categories.items()}
        out[inside] = matrix_at(columns.plain[inside], of_fold, encodings)
