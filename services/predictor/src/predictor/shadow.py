"""Prices a share of live requests with another version beside the champion: unseen by callers, never in their way.

An answered request leaves its listings and prices in a bounded queue; where that is full it is dropped. A thread prices
them with the version that the challenger's alias names, publishes how the prices differ, and writes both to the ledger.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

from core.errors import LedgerError
from core.features import parse_listings
from core.ledger import Ledger
from predictor import metrics
from predictor.champion import ChampionFollower

log = logging.getLogger(__name__)

QUEUED_LISTINGS = 2_000  # from so many on, requests are dropped
# One who works in Python holds up every other thread, so a lower priority would only make it hold them up for longer:
# it works on a few listings at a time, rests longer than it works, and nobody who hands it something wakes it up.
LISTINGS_AT_ONCE = 32
REST_SECONDS = 0.02
GATHER_SECONDS = 0.25  # to rest once nothing waits any more
WRITE_SECONDS = 5.0
RETRY_SECONDS = 30.0  # after a write that failed
HELD_ROWS = 20_000  # for the database; more are lost, the oldest first
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds
STOP_SECONDS = 5.0


class Request(NamedTuple):
    """An answered request."""

    at: float  # Unix time
    request_id: str
    version: str  # the champion's
    listings: Sequence[Mapping[str, Any]]
    prices: Sequence[float]


class Priced(NamedTuple):
    """One of its listings."""

    request: Request
    position: int

    @property
    def listing(self) -> Mapping[str, Any]:
        """As it was asked for."""
        return self.request.listings[self.position]

    @property
    def price(self) -> float:
        """The champion's."""
        return self.request.prices[self.position]


class Shadow:
    """`offer` is for any thread and returns at once; `step` does some of the work, `start` makes a thread of them."""

    def __init__(self, follower: ChampionFollower, share: float, dsn: str) -> None:
        """Of the requests, `share` (0 to 1) is sampled. Nothing is asked or connected yet."""
        self.follower = follower
        self.share = share
        self.problem: str | None = None  # of the work; that of the version is the follower's
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._dropped = metrics.shadow_listings.labels("dropped")  # once: looking it up takes as long as counting
        self._queue = _Listings(QUEUED_LISTINGS)
        self._waiting = self._queued()
        self._rows: deque[tuple[Any, ...]] = deque()
        self._write_at = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Follow the challenger's alias and compare."""
        self.follower.start()
        self._thread.start()

    def stop(self) -> None:
        """Write what was compared, and end; what waits is left. A thread that waits for the database ends by itself."""
        self.follower.stop()
        self._ending.set()
        self._thread.join(STOP_SECONDS)

    def offer(self, request_id: str, version: str, listings: Sequence[Mapping[str, Any]], prices: list[float]) -> None:
        """Hand over a request that the champion of this version has priced; where it is sampled, it is compared."""
        challenger = self.follower.state.served
        if challenger is None or challenger.version.version == version or not sampled(request_id, self.share):
            return
        try:
            self._queue.put_nowait(Request(time.time(), request_id, version, listings, prices))
        except Full:
            self._dropped.inc(len(listings))

    def _run(self) -> None:
        more = False
        while not self._ending.wait(REST_SECONDS if more else GATHER_SECONDS):
            try:
                more = self.step()
            except Exception as fault:  # noqa: BLE001 - the thread must outlive whatever there is
                self._tell(f"a fault of ours: {fault!r}")
        self._write()

    def step(self) -> bool:
        """Compare a few of the listings that wait, and write rows where it is time; whether more may wait."""
        priced: list[Priced] = []
        for one in islice(self._waiting, LISTINGS_AT_ONCE):
            if one is None:
                break
            priced.append(one)
        if priced:
            self._compare(priced)
        if time.monotonic() >= self._write_at:
            self._write_at = time.monotonic() + WRITE_SECONDS
            self._write()
        return len(priced) == LISTINGS_AT_ONCE

    def _queued(self) -> Iterator[Priced | None]:
        """Every listing that waits; None where no more of them do."""
        while True:
            try:
                request = self._queue.get_nowait()
            except Empty:
                yield None
            else:
                for position in range(len(request.prices)):
                    yield Priced(request, position)

    def _compare(self, priced: Sequence[Priced]) -> None:
        challenger = self.follower.state.served
        if challenger is None:  # it went meanwhile
            return
        version = challenger.version.version
        priced = [one for one in priced if one.request.version != version]  # it was promoted meanwhile
        if not priced:
            return
        try:
            prices = challenger.bundle.predict(parse_listings([one.listing for one in priced])).tolist()
        except Exception as failed:  # noqa: BLE001 - whatever it is, it is the challenger's
            self._tell(f"version {version} does not price: {failed!r}")
            metrics.shadow_listings.labels("failed").inc(len(priced))
            return
        pairs = list(zip(priced, prices, strict=True))
        good = [(one, price) for one, price in pairs if math.isfinite(price) and price > 0 and one.price > 0]
        failures = len(pairs) - len(good)
        self._tell(f"version {version} gives something else than prices" if failures else None)
        metrics.shadow_listings.labels("failed").inc(failures)
        metrics.shadow_listings.labels("compared").inc(len(good))
        metrics.shadow_dollars.labels("champion").inc(sum(one.price for one, _ in good))
        metrics.shadow_dollars.labels("challenger").inc(sum(price for _, price in good))
        for one, price in good:
            metrics.shadow_difference.observe(abs(price / one.price - 1))
            self._rows.append(_row(one, version, price))
        self._lose(len(self._rows) - HELD_ROWS)

    def _write(self) -> None:
        """Write all rows, once: those of a write that fails are lost."""
        count = len(self._rows)
        if not count:
            return
        try:
            self._ledger.add_shadow_prices(self._rows)
        except LedgerError as failed:
            log.warning("%d compared prices are lost: %s", count, failed)
            self._write_at = time.monotonic() + RETRY_SECONDS
            self._lose(count)
        else:
            metrics.shadow_rows.labels("written").inc(count)
            self._rows.clear()

    def _lose(self, count: int) -> None:
        for _ in range(count):
            self._rows.popleft()
        metrics.shadow_rows.labels("lost").inc(max(0, count))

    def _tell(self, problem: str | None) -> None:
        """A line when something begins to fail; `/model` shows it for as long as it does."""
        if problem and problem != self.problem:
            log.warning("not comparing with the challenger: %s", problem)
        self.problem = problem


class _Listings(Queue[Request]):
    """A queue whose size is the number of listings in it, so that its bound is one of memory."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._held = 0

    def _qsize(self) -> int:
        return self._held

    def _put(self, item: Request) -> None:
        super()._put(item)
        self._held += len(item.prices)

    def _get(self) -> Request:
        item: Request = super()._get()
        self._held -= len(item.prices)
        return item


def sampled(request_id: str, share: float) -> bool:
    """Whether the request with this id is among the share: the same answer in every process, and the next time."""
    drawn = int.from_bytes(blake2b(request_id.encode(), digest_size=4).digest())
    return drawn < share * 2**32


def _row(one: Priced, version: str, price: float) -> tuple[Any, ...]:
    """A row of `core.ledger.SHADOW_PRICE`."""
    request = one.request
    at = datetime.fromtimestamp(request.at, UTC)
    return at, request.request_id, one.position, request.version, one.price, version, price
