"""Logs every answer of `POST /predict` and `POST /explain` to the ledger without delaying answers.

A request puts its body and its answer into a bounded queue. A thread turns them into rows, writes the rows in batches,
and keeps the batches on disk while the database is away. Each process has its own queue and thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar
from uuid import UUID, uuid4, uuid5

from core.errors import LedgerError, RefusedRowsError
from core.ledger import Ledger
from predictor import metrics
from predictor.errors import status_of
from predictor.pricing.answers import PriceAnswer, PricesAnswer
from predictor.record.prediction_rows import LoggedRequest, rows_of
from predictor.record.spill import Row, Spill, SpillFullError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0  # between two attempts while the database is away
STOP_SECONDS = 10.0  # wait at shutdown for a database that neither answers nor refuses
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds
BATCH_ROWS = 2_000
# Python code in this thread blocks all other threads, and the event loop, which gives up the interpreter at every
# message, waits for each piece of it. So the thread works in small pieces (some 0.3 ms) and pauses after each.
_ROWS_MADE_PER_PIECE, _ROWS_SENT_PER_PIECE = 50, 100
_PAUSE_SECONDS, _MIN_PAUSE_SECONDS = 0.003, 0.0001

T = TypeVar("T")


class PredictionLog:
    """The log of predictions. Any thread may call `answered` and `failed`, which return at once."""

    def __init__(self, dsn: str, spill: Spill, queue_bytes: int) -> None:
        """Neither connects nor writes; `start` does."""
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._spill = spill
        self._queue_bytes = queue_bytes
        self._queue: deque[LoggedRequest] = deque()
        self._queued = 0  # bytes
        self._queued_lock = threading.Lock()
        self._in_transit: tuple[UUID, list[Row]] | None = None  # sent to the database, not confirmed yet
        self._problem = ""  # of the database, as last logged
        self._retry_at = 0.0
        self._replay_until = float("inf")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def answered(self, began: float, request_id: str, body: bytes, answer: PriceAnswer | PricesAnswer) -> None:
        """Log the prices of an answer of `Pricing`. `began` is a value of `time.perf_counter`."""
        seconds = time.perf_counter() - began
        version = answer["model_version"]
        self._put(LoggedRequest(time.time() - seconds, request_id, body, answer, version, 200, None, seconds))

    def failed(self, began: float, request_id: str, body: bytes, version: str | None, error: Exception) -> None:
        """Log a request that got an error instead of a price."""
        seconds = time.perf_counter() - began
        text = str(error) or type(error).__name__
        at = time.time() - seconds
        self._put(LoggedRequest(at, request_id, body, None, version, status_of(error), text, seconds))

    def _put(self, request: LoggedRequest) -> None:
        size = request.size
        with self._queued_lock:
            full = self._queued + size > self._queue_bytes
            if not full:
                self._queued += size
                self._queue.append(request)
        if full:
            metrics.log_dropped.labels("queue_full").inc(request.row_count)
        if self._queued > self._queue_bytes // 4:
            self._wake.set()

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """Write the queue to the database or to disk, and end the thread. Call it when no request is left."""
        self._retry_at, self._replay_until = 0.0, time.monotonic() + STOP_SECONDS / 2
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():  # a batch may reach both database and disk: by its id, the ledger stores it once
            log.warning("the database does not answer: the prediction log goes to disk")
            in_transit = self._in_transit
            for batch in (*([in_transit] if in_transit else []), *self._batches()):
                self._keep(*batch)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            stopping = self._stopping.is_set()
            try:
                self.flush()
            except Exception:  # the thread must survive every error
                log.exception("internal error in the prediction log")

    def flush(self) -> None:
        """Write the queue to the database or to disk. Then write the batches on disk to the database, oldest first."""
        metrics.log_queued.set(len(self._queue))
        for batch, rows in self._batches():
            if self._spill.oldest() is not None or not self._write(batch, rows):
                self._keep(batch, rows)
        self._replay()
        metrics.log_spill_bytes.set(self._spill.bytes)

    def _batches(self) -> Iterator[tuple[UUID, list[Row]]]:
        """The queued requests as batches. Later requests wait, so that each batch is worth a connection."""
        left = len(self._queue)
        while left:
            rows: list[Row] = []
            while left and len(rows) < BATCH_ROWS:
                try:
                    request = self._queue.popleft()
                except IndexError:  # during shutdown, two threads may empty the queue
                    left = 0
                    break
                left -= 1
                with self._queued_lock:
                    self._queued -= request.size
                try:
                    rows += list(self._in_pieces(rows_of(request), _ROWS_MADE_PER_PIECE))
                except Exception:  # one request must not cost the others
                    metrics.log_dropped.labels("unreadable").inc(request.row_count)
                    log.exception("request %s cannot be written to the prediction log", request.request_id)
                if len(rows) % _ROWS_MADE_PER_PIECE == 0:
                    self._pause()
            if rows:
                yield uuid4(), rows

    def _write(self, batch: UUID, rows: Sequence[Row]) -> bool:
        """Write a batch. True if it is done: the database stored it, or refused some rows for good.

        While the database is away, a call returns False at once, except for one attempt every `RETRY_SECONDS`.
        """
        if time.monotonic() < self._retry_at:
            return False
        self._in_transit = batch, list(rows)
        try:
            with metrics.log_seconds.time():
                self._ledger.add_predictions(batch, self._in_pieces(rows, _ROWS_SENT_PER_PIECE))
        except RefusedRowsError as error:
            self._halve(batch, rows, error)
            return True
        except LedgerError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._log_change(str(error))
            return False
        finally:
            self._in_transit = None
        self._log_change("")
        metrics.log_rows.labels("written").inc(len(rows))
        metrics.log_last_write.set_to_current_time()
        return True

    def _halve(self, batch: UUID, rows: Sequence[Row], error: RefusedRowsError) -> None:
        """Write a refused batch in halves, recursively. Only the rows that the database refuses are lost.

        The ids of the halves derive from the id of the batch, so that two processes with the same batch store it once.
        """
        if len(rows) == 1:
            self._drop(1, "refused", str(error))
            return
        middle = len(rows) // 2
        for name, half in (("first", rows[:middle]), ("second", rows[middle:])):
            half_id = uuid5(batch, name)
            if not self._write(half_id, half):
                self._keep(half_id, half)

    def _keep(self, batch: UUID, rows: Sequence[Row]) -> None:
        try:
            self._spill.add(batch, self._in_pieces(rows, _ROWS_SENT_PER_PIECE))
            metrics.log_rows.labels("spilled").inc(len(rows))
        except SpillFullError as error:
            self._drop(len(rows), "spill_full", str(error))
        except OSError as error:
            self._drop(len(rows), "spill_failed", f"the prediction log cannot be kept on disk: {error}")

    def _replay(self) -> None:
        """Write batches from disk until the database is away, the process must end, or the queue fills up."""
        while self._queued < self._queue_bytes // 4 and time.monotonic() < self._replay_until:
            name = self._spill.oldest()
            if name is None or time.monotonic() < self._retry_at:
                return
            try:
                batch, rows = self._spill.read(name)
            except FileNotFoundError:  # another process stored it
                self._spill.remove(name)
            except (OSError, ValueError) as error:
                log.error("%s cannot be read and is set aside: %s", name, error)
                metrics.log_dropped.labels("unreadable").inc()
                with suppress(FileNotFoundError):
                    self._spill.set_aside(name)
            else:
                if not self._write(batch, rows):
                    return
                self._spill.remove(name)

    def _in_pieces(self, items: Iterable[T], piece: int) -> Iterator[T]:
        """The items, with a pause for other threads after each `piece` of them."""
        for number, item in enumerate(items, 1):
            yield item
            if number % piece == 0:
                self._pause()

    def _pause(self) -> None:
        hurry = self._queued > self._queue_bytes // 4 or self._stopping.is_set()
        time.sleep(_MIN_PAUSE_SECONDS if hurry else _PAUSE_SECONDS)

    def _drop(self, rows: int, reason: str, message: str) -> None:
        metrics.log_dropped.labels(reason).inc(rows)
        log.error("%d rows of the prediction log are lost: %s", rows, message)

    def _log_change(self, problem: str) -> None:
        """Log one line when the database becomes unavailable, and one when it is back."""
        if problem and not self._problem:
            log.warning("the prediction log goes to disk until the database is back: %s", problem)
        if self._problem and not problem:
            log.info("the prediction log is written to the database again")
        self._problem = problem
