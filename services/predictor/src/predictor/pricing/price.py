"""Turns the body of a request into an answer. It can run in any thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from core.listing.parsing import parse_listings
from core.listing.schema import RawListing
from predictor import metrics
from predictor.errors import NOT_FINITE, InvalidBodyError, NoModelError, NotFiniteError, TooLargeError
from predictor.pricing.answers import (
    AnswerIdentity,
    ExplanationAnswer,
    ExplanationsAnswer,
    PriceAnswer,
    PricesAnswer,
)
from predictor.pricing.explanations import explanations
from predictor.pricing.listing import ListingParser
from predictor.pricing.ports import Comparison, ModelSource, RequestLog, ServedModel

_Prices = PriceAnswer | PricesAnswer
Answer = TypeVar("Answer")


class Pricing:
    """Prices and explains the listings of request bodies with the champion."""

    def __init__(
        self,
        models: ModelSource,
        max_listings: int,
        max_explained: int,
        log: RequestLog | None = None,
        shadow: Comparison | None = None,
    ) -> None:
        self._models = models
        self._log = log
        self._shadow = shadow
        self._listings = ListingParser(max_listings)
        self._explained = ListingParser(max_explained)

    def answer(self, body: bytes, request_id: str) -> PriceAnswer | PricesAnswer:
        """The answer of `POST /predict` for one listing or for a list.

        The prediction log gets the answer, or the error.

        Raises:
            NoModelError: no model is loaded yet.
            InvalidBodyError, TooLargeError: see `ListingParser.parse`.
            NotFiniteError: the model returned NaN or infinity for a listing.
        """
        return self._logged(self._answer, body, request_id)

    def explain(self, body: bytes, request_id: str) -> ExplanationAnswer | ExplanationsAnswer:
        """The answer of `POST /explain` for one listing or for a list.

        The prediction log gets what it would get from `answer`: the prices without their explanations, or the error.

        Raises:
            NoModelError, InvalidBodyError, TooLargeError, NotFiniteError: as in `answer`.
        """
        return self._logged(self._explain, body, request_id)

    def _logged(self, work: Callable[[bytes, str], tuple[_Prices, Answer]], body: bytes, request_id: str) -> Answer:
        """The second result of `work`. The prediction log gets the first one, or the error."""
        began = time.perf_counter()
        try:
            prices, answer = work(body, request_id)
        except Exception as error:
            self.log_failure(began, request_id, body, error)
            raise
        if self._log:
            self._log.answered(began, request_id, body, prices)
        return answer

    def log_failure(self, began: float, request_id: str, body: bytes, error: Exception) -> None:
        """Log that a request got no price. `body` is empty if it was not read."""
        if self._log:
            model = self._models.state.model
            self._log.failed(began, request_id, body, model.version.version if model else None, error)

    def _answer(self, body: bytes, request_id: str) -> tuple[_Prices, _Prices]:
        began = time.perf_counter()
        with self._champion() as champion:
            listings, many = self._listings.parse(body)
            answer: _Prices
            if many:
                answer = _price_all(champion, listings, request_id)
                prices = answer["prices"]
            else:
                answer = _price_one(champion, listings[0], request_id)
                prices = [answer["price"]]
            if not math.isfinite(sum(prices)):
                raise NotFiniteError(NOT_FINITE)
        metrics.predict_seconds.observe(time.perf_counter() - began)
        metrics.predictions.labels(champion.version.version, "priced").inc(len(listings))
        for price in prices:
            metrics.prices.observe(price)
        if self._shadow:
            self._shadow.offer(request_id, champion.version.version, listings, prices)
        return answer, answer

    def _explain(self, body: bytes, request_id: str) -> tuple[_Prices, ExplanationAnswer | ExplanationsAnswer]:
        """The prices as in `_answer`, and the same prices with their explanations."""
        began = time.perf_counter()
        with self._champion() as champion:
            listings, many = self._explained.parse(body)
            explanation = champion.bundle.explain(parse_listings(listings))
            estimates = explanation.estimates
            if not np.isfinite(estimates.prices).all():
                raise NotFiniteError(NOT_FINITE)
            explained = explanations(explanation, listings)
        metrics.explain_seconds.observe(time.perf_counter() - began)
        metrics.predictions.labels(champion.version.version, "explained").inc(len(listings))
        for one in explained:
            metrics.prices.observe(one["price"])
        identity = _identity(champion, request_id)
        if many:
            return {**identity, **estimates.to_json()}, {**identity, "explanations": explained}
        return {**identity, **estimates.row(0)}, {**identity, **explained[0]}

    @contextmanager
    def _champion(self) -> Iterator[ServedModel]:
        """The model for one request. Counts the request by outcome if it fails."""
        state = self._models.state  # read once: another thread may replace it at any moment
        try:
            if state.model is None:
                raise NoModelError(state.problem or "no model is loaded yet")
            yield state.model
        except Exception as error:
            version = state.model.version.version if state.model else "none"
            metrics.predictions.labels(version, _OUTCOMES.get(type(error), "failed")).inc()
            raise


def _price_one(champion: ServedModel, listing: RawListing, request_id: str) -> PriceAnswer:
    return {**_identity(champion, request_id), **champion.bundle.estimate_one(listing)}


def _price_all(champion: ServedModel, listings: list[RawListing], request_id: str) -> PricesAnswer:
    estimates = champion.bundle.estimate(parse_listings(listings))
    return {**_identity(champion, request_id), **estimates.to_json()}


def _identity(champion: ServedModel, request_id: str) -> AnswerIdentity:
    version = champion.version
    return {"request_id": request_id, "model_name": version.name, "model_version": version.version}


_OUTCOMES = {NoModelError: "no_model", InvalidBodyError: "invalid", TooLargeError: "too_large"}
