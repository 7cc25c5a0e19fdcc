"""Deletes old predictions, feedback and shadow prices from the ledger, also while this process logs no predictions."""

from __future__ import annotations

import logging
import threading

from core.errors import LedgerError
from core.ledger import Ledger

log = logging.getLogger(__name__)

PAUSE_SECONDS = 3600.0  # after a step that left no old rows
MORE_SECONDS = 1.0  # after a step that left old rows
RETRY_SECONDS = 300.0  # after an error
STEP_ROWS = 20_000  # deleted in one step, at most
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds


class Retention:
    """`step` deletes some old rows; `start` runs it in a thread. The ledger lets one process at a time delete."""

    def __init__(self, dsn: str, days: int) -> None:
        """Keep the rows of the last `days`. Does not connect yet."""
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._days = days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. If it waits for the database, it ends with the process."""
        self._stopping.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        pause = MORE_SECONDS
        while not self._stopping.wait(pause):
            try:
                pause = self.step()
            except Exception:  # the thread must survive every error
                pause = RETRY_SECONDS
                log.exception("internal error while deleting old rows of the ledger")

    def step(self) -> float:
        """Delete some old rows. Returns the seconds until the next step."""
        try:
            deleted = self._ledger.delete_older_than(self._days, STEP_ROWS)
        except LedgerError as error:
            log.warning("rows older than %d days cannot be deleted from the ledger: %s", self._days, error)
            return RETRY_SECONDS
        return MORE_SECONDS if deleted == STEP_ROWS else PAUSE_SECONDS
