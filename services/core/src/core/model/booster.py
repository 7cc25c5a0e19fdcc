"""Predictions by LightGBM's library through ctypes, without `import lightgbm`, which costs 100 MB of memory.

Predictions are bit-identical to `lightgbm.Booster.predict`: both call the same function of the same library.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from core.errors import BundleError

_FLOAT32, _FLOAT64 = 0, 1
_NORMAL, _CONTRIBUTIONS = 0, 3


@cache
def _library() -> ctypes.CDLL:
    package = importlib.util.find_spec("lightgbm")  # does not import the package
    if package is None or not package.submodule_search_locations:
        raise BundleError("the package lightgbm is not installed")
    library = ctypes.CDLL(str(Path(package.submodule_search_locations[0]) / "lib" / "lib_lightgbm.so"))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


@cache
def _one_row() -> Callable[..., int]:
    """The function that predicts one row. It holds the GIL, which is faster for a short call: calls do not overlap."""
    function = ctypes.PyDLL(_library()._name).LGBM_BoosterPredictForMatSingleRowFast
    function.argtypes = [ctypes.c_void_p] * 4
    return function


def _check(code: int) -> None:
    if code:
        raise BundleError(f"LightGBM refused: {_library().LGBM_GetLastError().decode()}")


class Booster:
    """A trained LightGBM model. Safe to use from several threads."""

    def __init__(self, text: str) -> None:
        """Load a model's text.

        Raises:
            BundleError: LightGBM refused the text. A damaged text can crash the process instead: check its sha256
                first, and load it in a child process.
        """
        self._handle, self._fast = ctypes.c_void_p(), ctypes.c_void_p()
        self._explaining = threading.Lock()
        rounds, features, outputs = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        _check(
            _library().LGBM_BoosterLoadModelFromString(text.encode(), ctypes.byref(rounds), ctypes.byref(self._handle))
        )
        _check(_library().LGBM_BoosterGetNumFeature(self._handle, ctypes.byref(features)))
        _check(_library().LGBM_BoosterGetNumClasses(self._handle, ctypes.byref(outputs)))
        if outputs.value != 1:  # LightGBM would write past the end of the array of predictions
            raise BundleError(
                f"the model gives {outputs.value} values for each row, but a price is one value: train again"
            )
        self.rounds = rounds.value
        self.features = features.value
        _check(
            _library().LGBM_BoosterPredictForMatSingleRowFastInit(
                self._handle,
                ctypes.c_int(_NORMAL),
                ctypes.c_int(0),
                ctypes.c_int(-1),
                ctypes.c_int(_FLOAT32),
                ctypes.c_int32(self.features),
                b"num_threads=1",
                ctypes.byref(self._fast),
            )
        )

    def __del__(self) -> None:
        if self._fast:
            _library().LGBM_FastConfigFree(self._fast)
        if self._handle:
            _library().LGBM_BoosterFree(self._handle)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Raw predictions, float64 (rows,), of a matrix (rows, features), float32 or float64.

        Raises:
            BundleError: the number of columns differs from the number of the model's features.
        """
        return self._predict(matrix, _NORMAL, 1)[:, 0]

    def predict_one(self, row: array[float]) -> float:
        """Raw prediction of one row, float32 (typecode "f"), bit-identical to `predict` and without its set-up cost.

        Raises:
            BundleError: the number of values differs from the number of the model's features.
        """
        if len(row) != self.features or row.typecode != "f":
            raise BundleError(
                f"the model has {self.features} features as float32, the row has {len(row)} as {row.typecode!r}"
            )
        written, out = ctypes.c_int64(), ctypes.c_double()
        _check(_one_row()(self._fast, row.buffer_info()[0], ctypes.byref(written), ctypes.byref(out)))
        return out.value

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """Exact SHAP values (TreeSHAP), the same as `lightgbm.Booster.predict(pred_contrib=True)`.

        Args:
            matrix: (rows, features), float32 or float64.

        Returns:
            float64, (rows, features + 1): the SHAP value of each feature, and in the last column the expected raw
            prediction. They add up to the raw prediction.

        Raises:
            BundleError: the number of columns differs from the number of the model's features.
        """
        with self._explaining:  # each call recomputes, in place, the depths by which LightGBM sizes its buffers
            return self._predict(matrix, _CONTRIBUTIONS, self.features + 1)

    def _predict(self, matrix: np.ndarray, kind: int, columns: int) -> np.ndarray:
        single = matrix.dtype == np.float32
        matrix = np.ascontiguousarray(matrix, dtype=np.float32 if single else np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.features:
            raise BundleError(f"the model has {self.features} features, the matrix has shape {matrix.shape}")
        out = np.empty((matrix.shape[0], columns), dtype=np.float64)
        written = ctypes.c_int64()
        _check(
            _library().LGBM_BoosterPredictForMat(
                self._handle,
                matrix.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_int(_FLOAT32 if single else _FLOAT64),
                ctypes.c_int32(matrix.shape[0]),
                ctypes.c_int32(matrix.shape[1]),
                ctypes.c_int(1),  # row-major
                ctypes.c_int(kind),
                ctypes.c_int(0),
                ctypes.c_int(-1),
                b"num_threads=1" if matrix.shape[0] < 1000 else b"",
                ctypes.byref(written),
                out.ctypes.data_as(ctypes.POINTER(ctypes.c_double)),
            )
        )
        return out
