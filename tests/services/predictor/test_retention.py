"""Old rows are deleted in steps until none is left, and again an hour later."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import LedgerError
from predictor.record import retention
from predictor.record.retention import MORE_SECONDS, PAUSE_SECONDS, RETRY_SECONDS, STEP_ROWS, Retention

from .conftest import until

ROW_BYTES = 400
NOWHERE = "postgresql://127.0.0.1:9/ledger"


class OldRows:
    """A ledger with a number of old rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.calls, self.error = rows, list[int](), None

    def delete_older_than(self, days: int, most: int) -> int:
        self.calls.append(days)
        if self.error:
            raise self.error
        deleted = min(self.rows, most)
        self.rows -= deleted
        return deleted

    def delete_beyond(self, max_bytes: int, most: int) -> int:
        deleted = max(0, min(self.rows - max_bytes // ROW_BYTES, most))
        self.rows -= deleted
        return deleted


def retention_of(ledger: OldRows, max_bytes: int = 0) -> Retention:
    instance = Retention(NOWHERE, 90, max_bytes)
    instance._ledger = ledger  # type: ignore[assignment]
    return instance


def test_steps_follow_quickly_until_no_old_row_is_left() -> None:
    ledger = OldRows(2 * STEP_ROWS + 1)
    assert [retention_of(ledger).step() for _ in range(4)] == [MORE_SECONDS, MORE_SECONDS, PAUSE_SECONDS, PAUSE_SECONDS]
    assert (ledger.rows, ledger.calls) == (0, [90] * 4)


def test_unavailable_database_is_logged_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    assert Retention(NOWHERE, 90, 0).step() == RETRY_SECONDS
    assert "rows older than 90 days cannot be deleted from the ledger: " in caplog.text


def test_size_is_limited_while_the_clock_looks_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ledger = OldRows(STEP_ROWS + 10)
    ledger.error = LedgerError("the clock may be wrong")
    running = retention_of(ledger, max_bytes=4 * ROW_BYTES)
    assert [running.step() for _ in range(3)] == [MORE_SECONDS, RETRY_SECONDS, RETRY_SECONDS]
    assert ledger.rows == 4
    assert "rows beyond 1,600 bytes: 20000 deleted" in caplog.text


@pytest.mark.parametrize("error", [LedgerError("away"), RuntimeError("a bug")])
def test_thread_survives_every_error_and_stops(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("MORE_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(retention, pause, 0.01)
    ledger = OldRows(3)
    ledger.error = error
    running = retention_of(ledger)
    running.start()
    until(lambda: len(ledger.calls) > 2)
    ledger.error = None
    until(lambda: ledger.rows == 0)
    running.stop()
    assert not running._thread.is_alive()
