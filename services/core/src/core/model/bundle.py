"""The model bundle: plain files that hold a complete model, and a manifest with the sha256 of each file.

    manifest.json    file name to sha256
    model.txt        LightGBM's text
    encodings.json   the fitted encodings that build_features needs
    metadata.json    fingerprint of the features, versions of the libraries
    ranges.json      factors of the prediction intervals
    golden.json      listings with the prices and intervals that this model predicts
    sales.*          sold listings of the training, see `core.model.sales`

A bundle without intervals predicts prices only: an earlier release wrote it, or there were too few rows to measure
intervals. A bundle without sales is of an earlier release. No pickle: loading a bundle executes no code of the bundle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import polars as pl

from core.errors import BundleError
from core.features.columns import FEATURES, FINGERPRINT, TARGET
from core.features.encodings import Encodings
from core.features.matrix import build_features, build_row
from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA, RawListing
from core.model.booster import Booster
from core.model.compatibility import check_libraries
from core.model.estimates import BASELINE_POSITION, Estimate, Estimates, Explanation, contributions, estimates, prices
from core.model.intervals import Intervals
from core.model.sales import PLACES, ROWS, SalesTable, read_sales

MANIFEST = "manifest.json"
INTERVALS = "ranges.json"
FILES = ("encodings.json", "golden.json", "metadata.json", "model.txt")  # and those of OPTIONAL that the model has
SALES = (PLACES, ROWS)
OPTIONAL = (INTERVALS, *SALES)
_GOLDEN_ROWS = 12
_CLOSE = 1e-9  # relative; another processor may round the last bits of exp() otherwise


class BundleMetadata(TypedDict):
    """Origin of a bundle. A predictor compares it with its own code."""

    fingerprint: str  # of the features
    features: Sequence[str]
    libraries: dict[str, str]  # versions at training


@dataclass(frozen=True)
class Bundle:
    """A model that can price raw listings."""

    booster: Booster
    encodings: Encodings
    metadata: BundleMetadata
    golden_listings: list[RawListing]
    golden_prices: list[float]
    golden_low: list[float] | None = None
    golden_high: list[float] | None = None
    intervals: Intervals | None = None
    sales: SalesTable | None = None
    manifest_sha256: str = field(kw_only=True)  # identifies the bundle, because the manifest covers every file

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the features it was trained on."""
        return str(self.metadata["fingerprint"])

    def predict(self, raw: pl.DataFrame) -> np.ndarray:
        """Prices in dollars, float64 (rows,), of raw listings."""
        return prices(self.booster, build_features(raw, self.encodings))

    def estimate(self, raw: pl.DataFrame) -> Estimates:
        """Prices of raw listings with their prediction intervals."""
        return estimates(self.booster, self.intervals, build_features(raw, self.encodings))

    def estimate_one(self, listing: RawListing) -> Estimate:
        """The estimate of one listing, bit-identical to `estimate`. Accepts listings as `build_row`."""
        row = build_row(listing, self.encodings)
        price = float(np.exp(row[BASELINE_POSITION] + self.booster.predict_one(row)))
        low, high = self.intervals.of_one(row, price) if self.intervals else (None, None)
        return {"price": price, "low": low, "high": high}

    def explain(self, raw: pl.DataFrame) -> Explanation:
        """Prices of raw listings, and the contribution of each feature to them."""
        matrix = build_features(raw, self.encodings)
        estimated = estimates(self.booster, self.intervals, matrix)
        return Explanation(matrix, estimated, *contributions(self.booster, matrix, self.encodings))

    def check_golden(self) -> None:
        """Price the golden listings again, with their intervals: all together, and each on its own.

        Raises:
            BundleError: a price or an end of an interval differs from the recorded one, or differs between both ways.
        """
        estimated = self.estimate(parse_listings(self.golden_listings))
        for name, values, recorded in (
            ("price", estimated.prices, self.golden_prices),
            ("low end of the interval", estimated.low, self.golden_low),
            ("high end of the interval", estimated.high, self.golden_high),
        ):
            if values is None or recorded is None:
                continue
            wrong = ~np.isclose(values, recorded, rtol=_CLOSE, atol=0)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                raise BundleError(
                    f"golden listing {at}: the {name} is {values[at]:.2f}, but {recorded[at]:.2f} is recorded. The "
                    "model or its libraries differ from those at training; train again"
                )
        for at, listing in enumerate(self.golden_listings):
            alone, among_others = self.estimate_one(listing), estimated.row(at)
            if alone != among_others:
                raise BundleError(
                    f"golden listing {at} has {alone} alone and {among_others} among others, so no price would be "
                    "reliable; train again"
                )


def write_bundle(
    folder: Path,
    model_text: str,
    encodings: Encodings,
    golden: pl.DataFrame,
    intervals: Intervals | None = None,
    sales: SalesTable | None = None,
) -> str:
    """Write a bundle and return the sha256 of its manifest.

    `golden` are raw listings; the bundle records the prices and intervals that the model predicts for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listings = golden.select([name for name in RAW_SCHEMA if name != TARGET]).to_dicts()
    estimated = estimates(Booster(model_text), intervals, build_features(parse_listings(listings), encodings))
    recorded = {name: dollars for name, dollars in estimated.to_json().items() if dollars is not None}
    metadata: BundleMetadata = {
        "fingerprint": FINGERPRINT,
        "features": FEATURES,
        "libraries": {name: version(name) for name in ("lightgbm", "numpy", "polars")},
    }
    contents = {
        "encodings.json": _json(encodings.to_json()),
        "golden.json": _json({"listings": listings} | recorded),
        "metadata.json": _json(metadata),
        "model.txt": model_text.encode(),
    }
    contents |= {INTERVALS: _json(intervals.to_json())} if intervals else {}
    contents |= sales.to_files() if sales is not None else {}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = _json({name: _sha256(content) for name, content in contents.items()})
    (folder / MANIFEST).write_bytes(manifest)
    return _sha256(manifest)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle. Checks every file against the manifest, and the features against those of this program.

    Raises:
        BundleError: a file is missing, damaged, or of another program; the message names it.
    """
    manifest, contents = _checked_files(folder)
    try:
        metadata = json.loads(contents["metadata.json"])
        golden = json.loads(contents["golden.json"])
        fitted = json.loads(contents["encodings.json"])
        fingerprint = metadata["fingerprint"]
        if fingerprint != FINGERPRINT:
            raise BundleError(
                f"the model was trained with features {fingerprint}, this program has {FINGERPRINT}: "
                "deploy the matching image or train again"
            )
        check_libraries(metadata.get("libraries", {}))
        encodings = Encodings.from_json(fitted)
        intervals = Intervals.from_json(json.loads(contents[INTERVALS])) if INTERVALS in contents else None
        if any((name in golden) != (intervals is not None) for name in ("low", "high")):
            raise ValueError("only one of the model and its golden listings has intervals")
        sales = read_sales(folder, json.loads(contents[PLACES])) if PLACES in contents else None
        booster = Booster(contents["model.txt"].decode())
        recorded = golden["listings"], golden["prices"], golden.get("low"), golden.get("high")
        bundle = Bundle(booster, encodings, metadata, *recorded, intervals, sales, manifest_sha256=_sha256(manifest))
    except (ValueError, KeyError, TypeError, OSError) as malformed:
        raise BundleError(f"the bundle in {folder} is malformed: {malformed!r}") from malformed
    if booster.features != len(FEATURES):
        raise BundleError(f"the model has {booster.features} features, this program builds {len(FEATURES)}")
    return bundle


def _checked_files(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """The manifest, and the content of each file that it lists, without ROWS, which `read_sales` maps."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        listed = {str(name): str(digest) for name, digest in json.loads(manifest).items()}
        expected = [*FILES, *(name for group in ((INTERVALS,), SALES) for name in group if listed.keys() & set(group))]
        contents = {name: (folder / name).read_bytes() for name in expected if name != ROWS}
        digests = {name: _sha256(content) for name, content in contents.items()}
        if ROWS in expected:
            with (folder / ROWS).open("rb") as rows:
                digests[ROWS] = hashlib.file_digest(rows, "sha256").hexdigest()
    except (OSError, ValueError, AttributeError) as unreadable:
        raise BundleError(f"the bundle in {folder} cannot be read: {unreadable}") from unreadable
    if set(listed) != set(expected):
        raise BundleError(f"the manifest in {folder} lists {sorted(listed)}, expected {expected}")
    for name, digest in digests.items():
        if digest != listed[name]:
            raise BundleError(f"{name} in {folder} is damaged: its sha256 differs from the one in the manifest")
    return manifest, contents


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def golden_sample(raw: pl.DataFrame) -> pl.DataFrame:
    """Listings to record with a model: those at `golden_positions`, and one listing that has only nulls."""
    nulls: Sequence[dict[str, None]] = [{}]
    return pl.concat([raw.select(RAW_SCHEMA.keys())[golden_positions(raw.height)], parse_listings(nulls)])


def golden_positions(rows: int) -> np.ndarray:
    """Positions of at most `_GOLDEN_ROWS` of the rows, evenly spread."""
    return np.arange(0, rows, max(1, rows // _GOLDEN_ROWS))[:_GOLDEN_ROWS]
