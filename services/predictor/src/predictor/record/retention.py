"""Deletes predictions, feedback and shadow prices from the ledger by age and by size, also while nothing is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

from core.errors import LedgerError
from core.ledger import Ledger
from predictor.background_thread import BackgroundThread

log = logging.getLogger(__name__)

PAUSE_SECONDS = 3600.0  # after a step that left no old rows
MORE_SECONDS = 1.0  # after a step that left old rows
RETRY_SECONDS = 300.0  # after an error
STEP_ROWS = 20_000  # deleted in one step, at most
CONNECT_TIMEOUT, STATEMENT_TIMEOUT = 3, 10  # seconds


class Retention(BackgroundThread):
    """`step` deletes some old rows; `start` runs it in a thread. The ledger lets one process at a time delete."""

    def __init__(self, dsn: str, days: int, max_bytes: int) -> None:
        """Keep the rows of the last `days`, and at most about `max_bytes` of predictions (0: no limit)."""
        super().__init__("retention")
        self._ledger = Ledger(dsn, connect_timeout=CONNECT_TIMEOUT, statement_timeout=STATEMENT_TIMEOUT)
        self._days, self._max_bytes = days, max_bytes

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
        ledger, days, max_bytes = self._ledger, self._days, self._max_bytes
        pause = _delete(f"rows older than {days} days", lambda: ledger.delete_older_than(days, STEP_ROWS))
        if not max_bytes:
            return pause
        return min(
            pause, _delete(f"rows beyond {max_bytes:,} bytes", lambda: ledger.delete_beyond(max_bytes, STEP_ROWS))
        )


def _delete(what: str, action: Callable[[], int]) -> float:
    """Delete some rows. Returns the seconds until the next step."""
    try:
        deleted = action()
    except LedgerError as error:
        log.warning("%s cannot be deleted from the ledger: %s", what, error)
        return RETRY_SECONDS
    if deleted:
        log.info("%s: %d deleted from the ledger", what, deleted)
    return MORE_SECONDS if deleted == STEP_ROWS else PAUSE_SECONDS
