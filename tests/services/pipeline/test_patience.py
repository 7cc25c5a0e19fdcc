"""Waiting for a component that is away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from core.errors import (
    DataError,
    HouseError,
    LedgerAwayError,
    LedgerError,
    RefusedRowsError,
    RegistryError,
    StorageError,
)
from pipeline.patience import patiently


def failing(times: int, error: HouseError) -> Callable[[], int]:
    """An action that fails this often, and then returns the number of its calls."""
    calls = itertools.count(1)

    def action() -> int:
        number = next(calls)
        if number <= times:
            raise error
        return number

    return action


@pytest.mark.parametrize("error", [StorageError, LedgerAwayError, RegistryError])
def test_action_is_repeated_until_the_component_answers(
    error: type[HouseError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert patiently("read the object store", 60, failing(2, error("refused"))) == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("waiting to read the object store: refused; next attempt in ") for line in lines)


@pytest.mark.parametrize("error", [StorageError, LedgerAwayError, RegistryError])
def test_last_error_is_raised_after_the_time(error: type[HouseError]) -> None:
    began = time.monotonic()
    with pytest.raises(error, match="refused"):
        patiently("wait", 0.6, failing(1000, error("refused")))
    assert time.monotonic() - began >= 0.6


def test_without_time_there_is_one_attempt() -> None:
    with pytest.raises(StorageError):
        patiently("wait", 0, failing(1, StorageError("refused")))


@pytest.mark.parametrize("error", [DataError, LedgerError, RefusedRowsError])
def test_error_that_waiting_does_not_cure_is_raised_at_once(error: type[HouseError]) -> None:
    with pytest.raises(error):
        patiently("wait", 60, failing(1, error("wrong")))
