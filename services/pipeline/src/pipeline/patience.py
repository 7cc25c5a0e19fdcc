"""Waiting for a component that is away: repeats an action with growing pauses until it succeeds or the time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from core.errors import LedgerAwayError, RegistryError, StorageError

Result = TypeVar("Result")

AWAY = (StorageError, LedgerAwayError, RegistryError)
_LONGEST_PAUSE = 30.0  # seconds


def patiently(what: str, seconds: float, action: Callable[[], Result]) -> Result:
    """Do an action; while a component is away, do it again for up to `seconds`. The action must be idempotent.

    Args:
        what: names the action in the messages, for example "connect to the ledger".
        seconds: after this time, no new attempt begins. 0: one attempt only.
        action: raises one of `AWAY` if the component is away.

    Raises:
        StorageError, LedgerAwayError, RegistryError: of the last attempt. Other errors of the action come at once.
    """
    return Retrying(
        retry=retry_if_exception_type(AWAY),
        stop=stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
        before_sleep=lambda state: _report(what, seconds, state),
        reraise=True,
    )(action)


def _report(what: str, seconds: float, state: RetryCallState) -> None:
    reason = state.outcome.exception() if state.outcome else None
    left = max(0.0, seconds - (state.seconds_since_start or 0))
    print(
        f"waiting to {what}: {reason}; next attempt in {state.upcoming_sleep:.0f} s, the last one in {left:.0f} s",
        flush=True,
    )
