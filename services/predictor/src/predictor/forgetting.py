"""Forgets what the ledger keeps of requests once it is too old, whether or not this process stores more of it."""

from __future__ import annotations

import logging
import threading

from core.errors import LedgerError
from core.ledger import Ledger

log = logging.getLogger(__name__)

FORGET_SECONDS = 3600.0
MORE_SECONDS = 1.0  # after a step that left some
RETRY_SECONDS = 300.0
FORGOTTEN_ROWS = 20_000  # in one step
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds


class Forgetting:
    """`step` forgets some, `start` makes a thread of steps; of several processes one at a time does so."""

    def __init__(self, dsn: str, days: int) -> None:
        """Keep rows of the last `days`. Nothing is connected yet."""
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._days = days
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forgetting", daemon=True)

    def start(self) -> None:
        """Begin to forget."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that waits for the database is left to end with the process."""
        self._ending.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        pause = MORE_SECONDS
        while not self._ending.wait(pause):
            try:
                pause = self.step()
            except Exception:  # the thread must outlive whatever there is
                pause = RETRY_SECONDS
                log.exception("forgetting met a fault of ours")

    def step(self) -> float:
        """Forget some rows; returns the seconds until the next step."""
        try:
            gone = self._ledger.forget(self._days, FORGOTTEN_ROWS)
        except LedgerError as failed:
            log.warning("what is older than %d days cannot be forgotten: %s", self._days, failed)
            return RETRY_SECONDS
        return MORE_SECONDS if gone == FORGOTTEN_ROWS else FORGET_SECONDS
