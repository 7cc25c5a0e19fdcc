"""What is too old is forgotten in steps, until nothing of it is left, and again an hour later."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import LedgerError
from predictor import forgetting
from predictor.forgetting import FORGET_SECONDS, FORGOTTEN_ROWS, MORE_SECONDS, RETRY_SECONDS, Forgetting

from .conftest import until

NOWHERE = "postgresql://127.0.0.1:9/ledger"


class Old:
    """A ledger with so many old rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.asked, self.fault = rows, list[int](), None

    def forget(self, days: int, most: int) -> int:
        self.asked.append(days)
        if self.fault:
            raise self.fault
        gone = min(self.rows, most)
        self.rows -= gone
        return gone


def of(ledger: Old) -> Forgetting:
    made = Forgetting(NOWHERE, 90)
    made._ledger = ledger  # type: ignore[assignment]
    return made


def test_steps_follow_at_once_until_nothing_is_left() -> None:
    ledger = Old(2 * FORGOTTEN_ROWS + 1)
    assert [of(ledger).step() for _ in range(4)] == [MORE_SECONDS, MORE_SECONDS, FORGET_SECONDS, FORGET_SECONDS]
    assert (ledger.rows, ledger.asked) == (0, [90] * 4)


def test_database_that_is_away_is_told_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    assert Forgetting(NOWHERE, 90).step() == RETRY_SECONDS
    assert "what is older than 90 days cannot be forgotten: " in caplog.text


@pytest.mark.parametrize("fault", [LedgerError("away"), RuntimeError("ours")])
def test_thread_outlives_every_fault_and_ends(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("MORE_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(forgetting, pause, 0.01)
    ledger = Old(3)
    ledger.fault = fault
    one = of(ledger)
    one.start()
    until(lambda: len(ledger.asked) > 2)
    ledger.fault = None
    until(lambda: ledger.rows == 0)
    one.stop()
    assert not one._thread.is_alive()
