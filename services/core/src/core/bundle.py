"""The model bundle: plain files that hold all of a model, and a manifest with the sha256 of each.

    manifest.json    file name to sha256
    model.txt        LightGBM's text
    encodings.json   what build_features needs to have learned
    metadata.json    fingerprint of the features, versions of the libraries
    ranges.json      how far its prices can be trusted
    golden.json      listings with the prices and ranges that this model gives

A bundle without ranges (of an earlier release, or of too few rows to tell) gives prices alone. No pickle: nothing in a
bundle is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.booster import Booster
from core.compatibility import check_libraries
from core.encodings import Encodings
from core.errors import BundleError
from core.features import (
    BASELINE,
    FEATURES,
    FINGERPRINT,
    RAW_SCHEMA,
    TARGET,
    build_features,
    build_row,
    parse_listings,
    typical_baseline,
)
from core.ranges import Ranges

MANIFEST = "manifest.json"
RANGES = "ranges.json"
FILES = ("encodings.json", "golden.json", "metadata.json", "model.txt")  # and RANGES, where there are any
_BASELINE_AT = FEATURES.index(BASELINE)
_CLOSE = 1e-9  # relative; another processor may round the last bits of exp() otherwise


@dataclass(frozen=True)
class Bundle:
    """A model that can price raw listings."""

    booster: Booster
    encodings: Encodings
    metadata: dict[str, Any]
    golden_listings: list[dict[str, Any]]
    golden_prices: list[float]
    golden_low: list[float] | None = None
    golden_high: list[float] | None = None
    ranges: Ranges | None = None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the features it was trained on."""
        return str(self.metadata["fingerprint"])

    def predict(self, raw: pl.DataFrame) -> np.ndarray:
        """Prices in dollars, float64 (rows,), of raw listings."""
        return prices(self.booster, build_features(raw, self.encodings))

    def estimate(self, raw: pl.DataFrame) -> Estimates:
        """Prices of raw listings with their ranges."""
        return estimates(self.booster, self.ranges, build_features(raw, self.encodings))

    def estimate_one(self, listing: Mapping[str, Any]) -> dict[str, float | None]:
        """`price`, `low` and `high` of one listing, as `build_row` takes it: to the last bit those of `estimate`."""
        row = build_row(listing, self.encodings)
        price = float(np.exp(row[_BASELINE_AT] + self.booster.predict_one(row)))
        low, high = self.ranges.of_one(row, price) if self.ranges else (None, None)
        return {"price": price, "low": low, "high": high}

    def explain(self, raw: pl.DataFrame) -> Explanation:
        """Prices of raw listings, and what each feature adds to them."""
        matrix = build_features(raw, self.encodings)
        found = estimates(self.booster, self.ranges, matrix)
        return Explanation(matrix, found, *contributions(self.booster, matrix, self.encodings))

    def check_golden(self) -> None:
        """Price the golden listings again, with their ranges, together and each alone.

        Raises:
            BundleError: a price, or an end of a range, is not the one that was recorded, or is another one alone.
        """
        found = self.estimate(parse_listings(self.golden_listings))
        for what, now, recorded in (
            ("is priced", found.prices, self.golden_prices),
            ("has a range from", found.low, self.golden_low),
            ("has a range to", found.high, self.golden_high),
        ):
            if now is None or recorded is None:
                continue
            wrong = ~np.isclose(now, recorded, rtol=_CLOSE, atol=0)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                raise BundleError(
                    f"golden listing {at} {what} {now[at]:.2f}, recorded was {recorded[at]:.2f}: "
                    "the model or its libraries are not the ones it was made with; train again"
                )
        for at, listing in enumerate(self.golden_listings):
            alone, among_others = self.estimate_one(listing), found.row(at)
            if alone != among_others:
                raise BundleError(
                    f"golden listing {at} gives {alone} alone and {among_others} among others: no answer could be "
                    "relied on; train again"
                )


@dataclass(frozen=True)
class Estimates:
    """Prices of listings, and the ranges they lie in (`core.ranges`)."""

    prices: np.ndarray  # float64, (rows,), dollars
    low: np.ndarray | None  # as prices; None where the model has no ranges
    high: np.ndarray | None  # as low

    def row(self, at: int) -> dict[str, float | None]:
        """`price`, `low` and `high` of one listing; null where there are no ranges."""
        columns = {"price": self.prices, "low": self.low, "high": self.high}
        return {name: None if dollars is None else float(dollars[at]) for name, dollars in columns.items()}

    def to_json(self) -> dict[str, list[float] | None]:
        """`prices`, `low` and `high` of all listings, as plain values; null where there are no ranges."""
        return {name: None if dollars is None else dollars.tolist() for name, dollars in vars(self).items()}


@dataclass(frozen=True)
class Explanation:
    """Why listings have their prices."""

    features: np.ndarray  # float32, (rows, len(FEATURES)); NaN where nothing is known
    estimates: Estimates  # those of `Bundle.estimate`
    expected: np.ndarray  # float64, (rows,), the model's expected logarithm of a price
    shap: np.ndarray  # float64, (rows, len(FEATURES)), SHAP values: what is added to `expected`

    @property
    def base_values(self) -> np.ndarray:
        """Dollars, float64 (rows,): the price from which the contributions lead to the listing's."""
        dollars: np.ndarray = np.exp(self.expected)
        return dollars

    @property
    def contributions(self) -> np.ndarray:
        """Dollars of each feature, float64 (rows, len(FEATURES)); with the base value they add up to the price.

        On the straight way from the expected logarithm to the listing's, each feature is paid what it moves the price
        (the attribution of Aumann and Shapley; integrated gradients). As the way is straight, that is its SHAP value
        times the logarithmic mean of both prices, (price - base) / (log price - log base): the order of features does
        not matter, equal SHAP values are worth the same dollars, and signs and zeros stay.
        """
        moved = self.shap.sum(axis=1)
        rate = np.divide(np.expm1(moved), moved, out=np.ones_like(moved), where=moved != 0)
        dollars: np.ndarray = self.shap * (self.base_values * rate)[:, np.newaxis]
        return dollars


def prices(booster: Booster, matrix: np.ndarray) -> np.ndarray:
    """Dollars, float64 (rows,), of a feature matrix: the trees add to the baseline's logarithm of the price."""
    dollars: np.ndarray = np.exp(baseline(matrix) + booster.predict(matrix))
    return dollars


def estimates(booster: Booster, ranges: Ranges | None, matrix: np.ndarray) -> Estimates:
    """Prices of a feature matrix, and their ranges where there are any."""
    dollars = prices(booster, matrix)
    return Estimates(dollars, *(ranges.of_many(matrix, dollars) if ranges else (None, None)))


def baseline(matrix: np.ndarray) -> np.ndarray:
    """Logarithms of the prices that the regression gives, float64 (rows,)."""
    return matrix[:, _BASELINE_AT].astype(np.float64)


def contributions(booster: Booster, matrix: np.ndarray, encodings: Encodings) -> tuple[np.ndarray, np.ndarray]:
    """Expected logarithm of a price, (rows,), and what each feature adds to it, (rows, len(FEATURES)), both float64.

    The trees' SHAP values; the baseline's feature adds, besides, what it is away from that of a typical house.
    """
    shap, typical = booster.contributions(matrix), typical_baseline(encodings)
    added = shap[:, :-1].copy()
    added[:, _BASELINE_AT] += baseline(matrix) - typical
    return shap[:, -1] + typical, added


def write_bundle(
    folder: Path, model_text: str, encodings: Encodings, golden: pl.DataFrame, ranges: Ranges | None = None
) -> str:
    """Write a bundle and return the sha256 of its manifest.

    `golden` are raw listings; the bundle records the prices and ranges that it gives them itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listings = golden.select([name for name in RAW_SCHEMA if name != TARGET]).to_dicts()
    found = estimates(Booster(model_text), ranges, build_features(parse_listings(listings), encodings))
    recorded = {name: dollars for name, dollars in found.to_json().items() if dollars is not None}
    metadata = {
        "fingerprint": FINGERPRINT,
        "features": FEATURES,
        "libraries": {name: version(name) for name in ("lightgbm", "numpy", "polars")},
    }
    contents = {
        "encodings.json": _json(encodings.to_json()),
        "golden.json": _json({"listings": listings} | recorded),
        "metadata.json": _json(metadata),
        "model.txt": model_text.encode(),
    } | ({RANGES: _json(ranges.to_json())} if ranges else {})
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = _json({name: _sha256(content) for name, content in contents.items()})
    (folder / MANIFEST).write_bytes(manifest)
    return _sha256(manifest)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle, checking every file against the manifest and the features against this code's.

    Raises:
        BundleError: a file is missing, damaged or foreign; the message says which.
    """
    contents = _checked_files(folder)
    try:
        metadata = json.loads(contents["metadata.json"])
        golden = json.loads(contents["golden.json"])
        learned = json.loads(contents["encodings.json"])
        fingerprint = metadata["fingerprint"]
        if fingerprint != FINGERPRINT:
            raise BundleError(
                f"the model was trained with features {fingerprint}, this program has {FINGERPRINT}: "
                "deploy the matching image or train again"
            )
        check_libraries(metadata.get("libraries", {}))
        encodings = Encodings.from_json(learned)
        ranges = Ranges.from_json(json.loads(contents[RANGES])) if RANGES in contents else None
        if any((name in golden) != (ranges is not None) for name in ("low", "high")):
            raise ValueError("its golden listings have ranges and it has none, or the other way round")
        booster = Booster(contents["model.txt"].decode())
        recorded = golden["listings"], golden["prices"], golden.get("low"), golden.get("high")
        bundle = Bundle(booster, encodings, metadata, *recorded, ranges)
    except (ValueError, KeyError, TypeError) as malformed:
        raise BundleError(f"the bundle in {folder} is malformed: {malformed!r}") from malformed
    if booster.features != len(FEATURES):
        raise BundleError(f"the model has {booster.features} features, this program builds {len(FEATURES)}")
    return bundle


def _checked_files(folder: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        listed = {str(name): str(digest) for name, digest in manifest.items()}
        expected = (*FILES, RANGES) if RANGES in listed else FILES
        contents = {name: (folder / name).read_bytes() for name in expected}
    except (OSError, ValueError, AttributeError) as unreadable:
        raise BundleError(f"the bundle in {folder} cannot be read: {unreadable}") from unreadable
    if set(listed) != set(contents):
        raise BundleError(f"the manifest in {folder} lists {sorted(listed)}, expected {list(expected)}")
    for name, content in contents.items():
        if _sha256(content) != listed[name]:
            raise BundleError(f"{name} in {folder} is damaged: its sha256 is not the manifest's")
    return contents


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def golden_sample(raw: pl.DataFrame, rows: int = 12) -> pl.DataFrame:
    """Listings to record with a model: some of `raw`, evenly spread, and one of nothing but nulls."""
    step = max(1, raw.height // rows)
    nulls: Sequence[dict[str, None]] = [{}]
    return pl.concat([raw.select(RAW_SCHEMA.keys())[::step][:rows], parse_listings(nulls)])
