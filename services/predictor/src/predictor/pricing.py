"""Prices a request: body in, answer out. No HTTP here, so that it runs in any thread."""

from __future__ import annotations

import time
from typing import Any

from core.features import parse_listings
from predictor import metrics
from predictor.champion import ChampionFollower
from predictor.errors import InvalidListingError, NoModelError, TooLargeError
from predictor.listing import Listings


class Pricing:
    """The one way from a request body to prices."""

    def __init__(self, follower: ChampionFollower, max_listings: int) -> None:
        self._follower = follower
        self._listings = Listings(max_listings)
        self.max_bytes = self._listings.max_bytes

    def answer(self, body: bytes, request_id: str) -> dict[str, Any]:
        """What `POST /predict` answers: `price` for one listing, `prices` in their order for a list.

        Raises:
            NoModelError: no model has been loaded yet.
            InvalidListingError, TooLargeError: see `Listings.parse`.
        """
        began = time.perf_counter()
        state = self._follower.state  # read once: the follower may replace it at any moment
        version = state.served.version.version if state.served else "none"
        try:
            if state.served is None:
                raise NoModelError(state.problem or "no model yet")
            listings, many = self._listings.parse(body)
            prices = [float(price) for price in state.served.bundle.predict(parse_listings(listings))]
        except Exception as failed:
            metrics.predictions.labels(version, _OUTCOMES.get(type(failed), "failed")).inc()
            raise
        metrics.predict_seconds.observe(time.perf_counter() - began)
        metrics.predictions.labels(version, "priced").inc(len(prices))
        for price in prices:
            metrics.prices.observe(price)
        told = {"request_id": request_id, "model_name": state.served.version.name, "model_version": version}
        return told | ({"prices": prices} if many else {"price": prices[0]})


_OUTCOMES = {NoModelError: "no_model", InvalidListingError: "invalid", TooLargeError: "too_large"}
