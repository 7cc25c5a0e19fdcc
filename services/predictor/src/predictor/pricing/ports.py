"""Protocols of the objects that pricing gets from other packages, so that it imports none of these packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.listing.schema import RawListing
from core.model.bundle import Bundle
from core.stores.registry import ModelVersion
from predictor.pricing.answers import PriceAnswer, PricesAnswer


class ServedModel(Protocol):
    """A model in memory: `predictor.serving.loader.LoadedModel`."""

    @property
    def version(self) -> ModelVersion:
        """The version in the registry."""

    @property
    def bundle(self) -> Bundle:
        """The model itself."""


class ModelState(Protocol):
    """The current model: `predictor.serving.follower.FollowerState`."""

    @property
    def model(self) -> ServedModel | None:
        """The model; None before the first one is loaded."""

    @property
    def problem(self) -> str | None:
        """Why there is no model, or why it may be out of date."""


class ModelSource(Protocol):
    """Holds the current model: `predictor.serving.follower.AliasFollower`."""

    @property
    def state(self) -> ModelState:
        """The state at this moment. Another thread may replace it at any time."""


class RequestLog(Protocol):
    """Stores requests and answers: `predictor.record.prediction_log.PredictionLog`."""

    def answered(self, began: float, request_id: str, body: bytes, answer: PriceAnswer | PricesAnswer) -> None:
        """Log the prices of an answer. `began` is a value of `time.perf_counter`."""

    def failed(self, began: float, request_id: str, body: bytes, version: str | None, error: Exception) -> None:
        """Log a request that got an error instead of a price."""


class Comparison(Protocol):
    """Compares prices with those of a challenger: `predictor.record.shadow.Shadow`."""

    def offer(self, request_id: str, version: str, listings: Sequence[RawListing], prices: list[float]) -> None:
        """Offer a request that the champion (`version`) has priced."""
