"""Prices a request: body in, answer out. No HTTP here, so that it runs in any thread."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.bundle import Bundle
from core.features import parse_listings
from predictor import metrics
from predictor.champion import Champion, ChampionFollower
from predictor.errors import NOT_FINITE, InvalidListingError, NoModelError, NotFiniteError, TooLargeError
from predictor.listing import Listings
from predictor.prediction_log import PredictionLog
from predictor.reasons import reasons
from predictor.shadow import Shadow


class Pricing:
    """The one way from a request body to prices."""

    def __init__(
        self,
        follower: ChampionFollower,
        max_listings: int,
        max_explained: int,
        log: PredictionLog | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self._follower = follower
        self._log = log
        self._shadow = shadow
        self._listings = Listings(max_listings)
        self._explained = Listings(max_explained)

    def answer(self, body: bytes, request_id: str) -> dict[str, Any]:
        """What `POST /predict` answers: `price` for one listing, `prices` in their order for a list; `low` and `high`.

        It is logged, and so is a failure.

        Raises:
            NoModelError: no model has been loaded yet.
            InvalidListingError, TooLargeError: see `Listings.parse`.
            NotFiniteError: the model gives no number for a listing.
        """
        began = time.perf_counter()
        try:
            answer = self._answer(body, request_id)
        except Exception as failed:
            self.note_failed(began, request_id, body, failed)
            raise
        if self._log:
            self._log.answered(began, request_id, body, answer)
        return answer

    def note_failed(self, began: float, request_id: str, body: bytes, failed: Exception) -> None:
        """Log that `POST /predict` has no price for a body, which is empty where it was not read."""
        if self._log:
            served = self._follower.state.served
            self._log.failed(began, request_id, body, served.version.version if served else None, failed)

    def _answer(self, body: bytes, request_id: str) -> dict[str, Any]:
        began = time.perf_counter()
        with self._champion() as champion:
            listings, many = self._listings.parse(body)
            estimated = _estimated(champion.bundle, listings, many)
            prices = estimated["prices"] if many else [estimated["price"]]
            if not math.isfinite(sum(prices)):
                raise NotFiniteError(NOT_FINITE)
        metrics.predict_seconds.observe(time.perf_counter() - began)
        metrics.predictions.labels(champion.version.version, "priced").inc(len(listings))
        for price in prices:
            metrics.prices.observe(price)
        if self._shadow:
            self._shadow.offer(request_id, champion.version.version, listings, prices)
        return _told(champion, request_id) | estimated

    def explain(self, body: bytes, request_id: str) -> dict[str, Any]:
        """What `POST /explain` answers: the reasons of one price for one listing, `explanations` for a list.

        Raises:
            NoModelError, InvalidListingError, TooLargeError: as `answer`.
        """
        with self._champion() as champion:
            listings, many = self._explained.parse(body)
            explained = reasons(champion.bundle.explain(parse_listings(listings)), listings)
        metrics.predictions.labels(champion.version.version, "explained").inc(len(explained))
        return _told(champion, request_id) | ({"explanations": explained} if many else explained[0])

    @contextmanager
    def _champion(self) -> Iterator[Champion]:
        """The model to answer with; what goes wrong with it is counted."""
        state = self._follower.state  # read once: the follower may replace it at any moment
        try:
            if state.served is None:
                raise NoModelError(state.problem or "no model yet")
            yield state.served
        except Exception as failed:
            version = state.served.version.version if state.served else "none"
            metrics.predictions.labels(version, _OUTCOMES.get(type(failed), "failed")).inc()
            raise


def _estimated(bundle: Bundle, listings: list[dict[str, Any]], many: bool) -> dict[str, Any]:
    return bundle.estimate(parse_listings(listings)).to_json() if many else bundle.estimate_one(listings[0])


def _told(champion: Champion, request_id: str) -> dict[str, Any]:
    version = champion.version
    return {"request_id": request_id, "model_name": version.name, "model_version": version.version}


_OUTCOMES = {NoModelError: "no_model", InvalidListingError: "invalid", TooLargeError: "too_large"}
