"""Prices a share of the live requests with the challenger as well, invisible to clients and without delaying answers.

An answered request puts its listings and prices into a bounded queue, and is dropped if the queue is full. A thread
prices the listings with the challenger, publishes the differences as metrics, and writes both prices to the ledger.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

from core.errors import LedgerError
from core.ledger import Ledger
from core.listing.parsing import parse_listings
from core.listing.schema import RawListing
from predictor import metrics
from predictor.serving.follower import AliasFollower

log = logging.getLogger(__name__)

QUEUED_LISTINGS = 2_000  # requests are dropped while the queue has this many
# Python code in this thread blocks all other threads, and a lower priority would only make it block them for longer. So
# it works on a few listings at a time and rests longer than it works, and new requests do not wake it up.
LISTINGS_AT_ONCE = 32
REST_SECONDS = 0.02
GATHER_SECONDS = 0.25  # rest while the queue is empty
WRITE_SECONDS = 5.0
RETRY_SECONDS = 30.0  # after a write that failed
HELD_ROWS = 20_000  # waiting for the database; beyond that the oldest rows are lost
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds
STOP_SECONDS = 5.0


class ShadowRequest(NamedTuple):
    """An answered request."""

    at: float  # Unix time
    request_id: str
    version: str  # the champion's
    listings: Sequence[RawListing]
    prices: Sequence[float]


class ShadowListing(NamedTuple):
    """A listing of an answered request."""

    request: ShadowRequest
    position: int

    @property
    def listing(self) -> RawListing:
        """The listing's fields."""
        return self.request.listings[self.position]

    @property
    def price(self) -> float:
        """The champion's price."""
        return self.request.prices[self.position]


class Shadow:
    """Compares the challenger with the champion.

    Any thread may call `offer`, which returns at once. `step` prices some listings; `start` runs it in a thread.
    """

    def __init__(self, follower: AliasFollower, share: float, dsn: str) -> None:
        """Samples `share` (0 to 1) of the requests. Connects to nothing yet."""
        self.follower = follower
        self.share = share
        self.problem: str | None = None  # of the comparison; the follower's state has problems of loading
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._dropped = metrics.shadow_listings.labels("dropped")  # a lookup takes as long as counting
        self._queue = _ListingQueue(QUEUED_LISTINGS)
        self._waiting = self._queued_listings()
        self._rows: deque[tuple[Any, ...]] = deque()
        self._write_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start to follow the challenger's alias and to compare."""
        self.follower.start()
        self._thread.start()

    def stop(self) -> None:
        """Write the compared prices and end. Queued requests are dropped."""
        self.follower.stop()
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def offer(self, request_id: str, version: str, listings: Sequence[RawListing], prices: list[float]) -> None:
        """Queue a request that the champion (`version`) has priced, if it is in the sample."""
        challenger = self.follower.state.model
        if challenger is None or challenger.version.version == version or not sampled(request_id, self.share):
            return
        try:
            self._queue.put_nowait(ShadowRequest(time.time(), request_id, version, listings, prices))
        except Full:
            self._dropped.inc(len(listings))

    def _run(self) -> None:
        more = False
        while not self._stopping.wait(REST_SECONDS if more else GATHER_SECONDS):
            try:
                more = self.step()
            except Exception as error:  # noqa: BLE001 - the thread must survive every error
                self._set_problem(f"internal error: {error!r}")
        self._write()

    def step(self) -> bool:
        """Compare a few queued listings, and write rows if it is time. True if more listings may be queued."""
        listings: list[ShadowListing] = []
        for listing in islice(self._waiting, LISTINGS_AT_ONCE):
            if listing is None:
                break
            listings.append(listing)
        if listings:
            self._compare(listings)
        if time.monotonic() >= self._write_at:
            self._write_at = time.monotonic() + WRITE_SECONDS
            self._write()
        return len(listings) == LISTINGS_AT_ONCE

    def _queued_listings(self) -> Iterator[ShadowListing | None]:
        """An endless iterator over the queued listings; None whenever the queue is empty."""
        while True:
            try:
                request = self._queue.get_nowait()
            except Empty:
                yield None
            else:
                for position in range(len(request.prices)):
                    yield ShadowListing(request, position)

    def _compare(self, listings: Sequence[ShadowListing]) -> None:
        challenger = self.follower.state.model
        if challenger is None:  # dropped since the request was queued
            return
        version = challenger.version.version
        listings = [each for each in listings if each.request.version != version]  # promoted since then
        if not listings:
            return
        try:
            prices = challenger.bundle.predict(parse_listings([each.listing for each in listings])).tolist()
        except Exception as error:  # noqa: BLE001 - no error of the challenger may end the thread
            self._set_problem(f"version {version} failed to price listings: {error!r}")
            metrics.shadow_listings.labels("failed").inc(len(listings))
            return
        pairs = list(zip(listings, prices, strict=True))
        good = [(each, price) for each, price in pairs if math.isfinite(price) and price > 0 and each.price > 0]
        failures = len(pairs) - len(good)
        self._set_problem(f"version {version} returned prices that are not positive numbers" if failures else None)
        metrics.shadow_listings.labels("failed").inc(failures)
        metrics.shadow_listings.labels("compared").inc(len(good))
        metrics.shadow_dollars.labels("champion").inc(sum(each.price for each, _ in good))
        metrics.shadow_dollars.labels("challenger").inc(sum(price for _, price in good))
        for each, price in good:
            metrics.shadow_difference.observe(abs(price / each.price - 1))
            self._rows.append(_row(each, version, price))
        self._lose(len(self._rows) - HELD_ROWS)

    def _write(self) -> None:
        """Write all rows. If the write fails, they are lost."""
        count = len(self._rows)
        if not count:
            return
        try:
            self._ledger.add_shadow_prices(self._rows)
        except LedgerError as error:
            log.warning("%d compared prices are lost: %s", count, error)
            self._write_at = time.monotonic() + RETRY_SECONDS
            self._lose(count)
        else:
            metrics.shadow_rows.labels("written").inc(count)
            self._rows.clear()

    def _lose(self, count: int) -> None:
        for _ in range(count):
            self._rows.popleft()
        metrics.shadow_rows.labels("lost").inc(max(0, count))

    def _set_problem(self, problem: str | None) -> None:
        """Store the problem, which `/model` shows, and log it when it is new."""
        if problem and problem != self.problem:
            log.warning("not comparing with the challenger: %s", problem)
        self.problem = problem


class _ListingQueue(Queue[ShadowRequest]):
    """A queue of requests whose size is the number of their listings, so that its limit also limits memory."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._size = 0

    def _qsize(self) -> int:
        return self._size

    def _put(self, item: ShadowRequest) -> None:
        super()._put(item)
        self._size += len(item.prices)

    def _get(self) -> ShadowRequest:
        item: ShadowRequest = super()._get()
        self._size -= len(item.prices)
        return item


def sampled(request_id: str, share: float) -> bool:
    """Whether the request with this id is in the sample. Every process gives the same answer, every time."""
    draw = int.from_bytes(blake2b(request_id.encode(), digest_size=4).digest())
    return draw < share * 2**32


def _row(listing: ShadowListing, version: str, price: float) -> tuple[Any, ...]:
    """A row with the columns of `core.ledger.predictions.SHADOW_PRICE`."""
    request = listing.request
    at = datetime.fromtimestamp(request.at, UTC)
    return at, request.request_id, listing.position, request.version, listing.price, version, price
