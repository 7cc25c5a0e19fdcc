"""Loader of a bundle for `mlflow.pyfunc.load_model`: raw listings in, prices out. No pickle.

Registered models store the name of this module, so it cannot be renamed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.listing.parsing import parse_listings
from core.model.bundle import load_bundle


class BundleModel:
    """A bundle with MLflow's interface for models."""

    def __init__(self, folder: Path) -> None:
        self._bundle = load_bundle(folder)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002 - MLflow passes it
        """Prices in dollars of raw listings, a pandas frame or a list of dicts. Missing fields are unknown."""
        return self._bundle.predict(parse_listings(_records(model_input)))


def _records(listings: Any) -> list[dict[str, Any]]:
    if isinstance(listings, list):
        return listings
    records: list[dict[str, Any]] = listings.astype(object).where(listings.notna(), None).to_dict(orient="records")
    return records


def _load_pyfunc(path: str) -> BundleModel:
    return BundleModel(Path(path))
