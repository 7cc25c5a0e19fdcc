"""Logs every answer of `POST /predict` to the ledger: beside the answers, never in their way.

A request leaves its body and its answer in a bounded queue. A thread makes rows of them, writes the rows in batches,
and keeps batches on disk while the database is away. Each process has a queue and a thread of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4, uuid5

import psycopg
from pydantic_core import from_json, to_json

from core.errors import LedgerError
from core.ledger import Ledger
from predictor import metrics
from predictor.errors import status_of
from predictor.listing import Listing
from predictor.spill import Row, Spill, SpillFullError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0  # between two attempts while the database is away
STOP_SECONDS = 10.0  # for a database that neither answers nor refuses
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds
BATCH_ROWS = 2_000
MAX_BODY_CHARACTERS = 2_000  # of a request that failed
MAX_VALUE_CHARACTERS = 200  # of a listing
MAX_ERROR_CHARACTERS = 1_000
REQUEST_BYTES = 1_000  # what a request takes in the queue beside its body and prices
# One who works in Python holds up every other thread, and the server, which lets go at every message, waits for each
# piece: so much work at a time (some 0.3 ms), then room for answers.
_MADE_AT_ONCE, _GIVEN_AT_ONCE = 50, 100  # rows
_ROOM_SECONDS, _LEAST_ROOM_SECONDS = 0.003, 0.0001

_FIELDS = tuple(Listing.model_fields)
T = TypeVar("T")


class Request(NamedTuple):
    """What is known of a request once it is answered."""

    at: float  # Unix time at which it came
    request_id: str
    body: bytes
    answer: Mapping[str, Any] | None  # None: it failed
    model_version: str | None
    status: int
    error: str | None
    seconds: float

    @property
    def size(self) -> int:
        """Bytes that it takes in the queue, about; those of its rows' numbers included."""
        return REQUEST_BYTES + len(self.body) + 100 * self.listings

    @property
    def listings(self) -> int:
        """How many rows it gives."""
        return len(self.answer["prices"]) if self.answer and "prices" in self.answer else 1


class PredictionLog:
    """`answered` and `failed` are for any thread and return at once; the rest is for whoever starts the service."""

    def __init__(self, dsn: str, spill: Spill, queue_bytes: int) -> None:
        """Nothing is connected or written before `start`."""
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._spill = spill
        self._queue_bytes = queue_bytes
        self._queue: deque[Request] = deque()
        self._queued = 0  # bytes
        self._counting = threading.Lock()
        self._in_hand: tuple[UUID, list[Row]] | None = None  # that the database has been given and has not confirmed
        self._problem = ""  # of the database, as it was last told
        self._retry_at = 0.0
        self._replay_until = float("inf")
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def answered(self, began: float, request_id: str, body: bytes, answer: Mapping[str, Any]) -> None:
        """Log an answer as `Pricing.answer` gives it; `began` is of `time.perf_counter`."""
        seconds = time.perf_counter() - began
        version = answer["model_version"]
        self._put(Request(time.time() - seconds, request_id, body, answer, version, 200, None, seconds))

    def failed(self, began: float, request_id: str, body: bytes, version: str | None, error: Exception) -> None:
        """Log a request that got an error instead of a price."""
        seconds = time.perf_counter() - began
        text = str(error) or type(error).__name__
        self._put(Request(time.time() - seconds, request_id, body, None, version, status_of(error), text, seconds))

    def _put(self, request: Request) -> None:
        size = request.size
        with self._counting:
            full = self._queued + size > self._queue_bytes
            if not full:
                self._queued += size
                self._queue.append(request)
        if full:
            metrics.log_dropped.labels("queue_full").inc(request.listings)
        if self._queued > self._queue_bytes // 4:
            self._wake.set()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, or keep it on disk, and end. Call it once no request is left."""
        self._retry_at, self._replay_until = 0.0, time.monotonic() + STOP_SECONDS / 2
        self._ending.set()
        self._wake.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():  # the database has a batch and says nothing: the batch is stored once all the same
            log.warning("the database does not answer: the prediction log goes to disk")
            held = self._in_hand
            for batch in (*([held] if held else []), *self._batches()):
                self._keep(*batch)

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            ending = self._ending.is_set()
            try:
                self.flush()
            except Exception:  # the thread must outlive whatever there is
                log.exception("the prediction log met a fault of ours")

    def flush(self) -> None:
        """Write or keep what is queued, then what waits on disk, the oldest first."""
        metrics.log_queued.set(len(self._queue))
        for batch, rows in self._batches():
            if self._spill.oldest() is not None or not self._write(batch, rows):
                self._keep(batch, rows)
        self._replay()
        metrics.log_spill_bytes.set(self._spill.bytes)

    def _batches(self) -> Iterator[tuple[UUID, list[Row]]]:
        """What is queued now; what comes meanwhile waits, so that each batch is worth a connection."""
        left = len(self._queue)
        while left:
            rows: list[Row] = []
            while left and len(rows) < BATCH_ROWS:
                try:
                    request = self._queue.popleft()
                except IndexError:  # at the end two threads may be at it
                    left = 0
                    break
                left -= 1
                with self._counting:
                    self._queued -= request.size
                try:
                    rows += list(self._gently(_rows(request), _MADE_AT_ONCE))
                except Exception:  # one request must not cost the others
                    metrics.log_dropped.labels("unreadable").inc(request.listings)
                    log.exception("request %s is not in the prediction log", request.request_id)
                if len(rows) % _MADE_AT_ONCE == 0:
                    self._rest()
            if rows:
                yield uuid4(), rows

    def _write(self, batch: UUID, rows: Sequence[Row]) -> bool:
        """Whether the batch needs no further care: it is stored, or the database refused it for good.

        While the database is away it is asked every `RETRY_SECONDS` only.
        """
        if time.monotonic() < self._retry_at:
            return False
        self._in_hand = batch, list(rows)
        try:
            with metrics.log_seconds.time():
                self._ledger.add_predictions(batch, self._gently(rows, _GIVEN_AT_ONCE))
        except LedgerError as failed:
            if isinstance(failed.__cause__, psycopg.DataError | psycopg.IntegrityError):
                self._halve(batch, rows, failed)
                return True
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._tell(str(failed))
            return False
        finally:
            self._in_hand = None
        self._tell("")
        metrics.log_rows.labels("written").inc(len(rows))
        metrics.log_last_write.set_to_current_time()
        return True

    def _halve(self, batch: UUID, rows: Sequence[Row], failed: LedgerError) -> None:
        """Find the row that the database refuses: it is lost, the others are not.

        The halves' ids follow from the batch's, so that two processes that have the same batch store it once.
        """
        if len(rows) == 1:
            self._drop(1, "refused", str(failed))
            return
        middle = len(rows) // 2
        for name, half in (("first", rows[:middle]), ("second", rows[middle:])):
            identity = uuid5(batch, name)
            if not self._write(identity, half):
                self._keep(identity, half)

    def _keep(self, batch: UUID, rows: Sequence[Row]) -> None:
        try:
            self._spill.add(batch, self._gently(rows, _GIVEN_AT_ONCE))
            metrics.log_rows.labels("spilled").inc(len(rows))
        except SpillFullError as full:
            self._drop(len(rows), "spill_full", str(full))
        except OSError as broken:
            self._drop(len(rows), "spill_failed", f"the prediction log cannot be kept on disk: {broken}")

    def _replay(self) -> None:
        """Store what waits, until the database is away, the process must end, or the queue needs care before."""
        while self._queued < self._queue_bytes // 4 and time.monotonic() < self._replay_until:
            name = self._spill.oldest()
            if name is None or time.monotonic() < self._retry_at:
                return
            try:
                batch, rows = self._spill.read(name)
            except FileNotFoundError:  # another process stored it
                self._spill.remove(name)
            except (OSError, ValueError) as unusable:
                log.error("%s cannot be read and is set aside: %s", name, unusable)
                metrics.log_dropped.labels("unreadable").inc()
                with suppress(FileNotFoundError):
                    self._spill.set_aside(name)
            else:
                if not self._write(batch, rows):
                    return
                self._spill.remove(name)

    def _gently(self, things: Iterable[T], at_once: int) -> Iterator[T]:
        """The same, with room for other threads in between."""
        for number, thing in enumerate(things, 1):
            yield thing
            if number % at_once == 0:
                self._rest()

    def _rest(self) -> None:
        pressed = self._queued > self._queue_bytes // 4 or self._ending.is_set()
        time.sleep(_LEAST_ROOM_SECONDS if pressed else _ROOM_SECONDS)

    def _drop(self, rows: int, reason: str, text: str) -> None:
        metrics.log_dropped.labels(reason).inc(rows)
        log.error("%d rows of the prediction log are lost: %s", rows, text)

    def _tell(self, problem: str) -> None:
        """A line when the database goes away, and one when it is back."""
        if problem and not self._problem:
            log.warning("the prediction log waits on disk: %s", problem)
        if self._problem and not problem:
            log.info("the prediction log is written again")
        self._problem = problem


def _rows(request: Request) -> Iterator[Row]:
    """A request as rows of `core.ledger.PREDICTION`: one per listing, and one for a failure."""
    at = datetime.fromtimestamp(request.at, UTC).isoformat()
    told = request.model_version, request.status, _text(request.error, MAX_ERROR_CHARACTERS), request.seconds
    if request.answer is None:
        yield at, request.request_id, 0, _beginning(request.body), None, None, None, *told
        return
    answer, sent = request.answer, from_json(request.body)
    if "price" in answer:
        yield at, request.request_id, 0, _listing(sent), answer["price"], answer["low"], answer["high"], *told
        return
    unknown = [None] * len(sent)
    lows, highs = answer["low"] or unknown, answer["high"] or unknown
    for position, (listing, price, low, high) in enumerate(zip(sent, answer["prices"], lows, highs, strict=True)):
        yield at, request.request_id, position, _listing(listing), price, low, high, *told


def _listing(sent: Mapping[str, Any]) -> str:
    """The known fields as they were sent, as JSON; what callers add beside them is nobody's business."""
    known = {name: sent[name] for name in _FIELDS if name in sent}
    text = to_json(known).decode()
    if len(text) > MAX_BODY_CHARACTERS or "\\u0000" in text:  # PostgreSQL has no such character
        text = to_json(
            {
                name: _text(value, MAX_VALUE_CHARACTERS) if isinstance(value, str) else value
                for name, value in known.items()
            }
        ).decode()
    return text


def _beginning(body: bytes) -> str | None:
    """The beginning of a body that was not priced, as a JSON string; null if it was not read."""
    if not body:
        return None
    return to_json(_text(body[: 4 * MAX_BODY_CHARACTERS].decode(errors="replace"), MAX_BODY_CHARACTERS)).decode()


def _text(text: str | None, most: int) -> str | None:
    return None if text is None else text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}")
