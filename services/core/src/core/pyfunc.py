"""What `mlflow.pyfunc.load_model` calls to load a bundle: raw listings in, prices out. No pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.bundle import load_bundle
from core.features import parse_listings


class BundleModel:
    """A bundle behind MLflow's interface."""

    def __init__(self, folder: Path) -> None:
        self._bundle = load_bundle(folder)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002 - MLflow's
        """Prices in dollars of raw listings, as a pandas frame or a list of dicts; what is missing is unknown."""
        return self._bundle.predict(parse_listings(_records(model_input)))


def _records(listings: Any) -> list[dict[str, Any]]:
    if isinstance(listings, list):
        return listings
    found: list[dict[str, Any]] = listings.astype(object).where(listings.notna(), None).to_dict(orient="records")
    return found


def _load_pyfunc(path: str) -> BundleModel:
    return BundleModel(Path(path))
