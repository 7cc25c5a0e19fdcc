"""Reads the history of batches from the ledger, with short timeouts, because people wait for the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypedDict, TypeVar

from core.errors import MissingTableError, RefusedRowsError
from core.ledger import Ledger
from core.ledger.history import ChampionRow, HistoryRow
from core.ledger.predictions import InvalidPricesRow, LiveErrorRow

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 3

ViewRow = TypeVar("ViewRow")


class LedgerViews(TypedDict):
    """Rows of the ledger's views. `predictor.http.schemas.BatchHistory` describes them to clients."""

    batches: list[HistoryRow]  # in order of arrival
    gaps: list[int]
    champions: list[ChampionRow]
    live_errors: list[LiveErrorRow]
    invalid_prices: list[InvalidPricesRow]


class LedgerHistory:
    """Reads what happened to every batch."""

    def __init__(self, dsn: str) -> None:
        self._ledger = Ledger(dsn, connect_timeout=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS)

    def read(self) -> LedgerViews:
        """Read all views. They are empty before the pipeline's first run.

        Raises:
            LedgerError: the database did not answer.
        """
        try:
            batches, gaps = self._ledger.history(), self._ledger.gaps()
        except MissingTableError:  # the first stage of the pipeline creates the schema
            batches, gaps = [], []
        return {
            "batches": batches,
            "gaps": gaps,
            "champions": _rows_or_none(self._ledger.champions),
            "live_errors": _rows_or_none(self._ledger.live_errors),
            "invalid_prices": _rows_or_none(self._ledger.invalid_prices),
        }

    def last_backups(self) -> dict[str, float]:
        """Unix time of the last backup of each kind; a kind without a backup is missing.

        Raises:
            LedgerError: the database did not answer.
        """
        try:
            return self._ledger.last_backups()
        except MissingTableError:  # before the pipeline's first run, and with the schema of an earlier release
            return {}


def _rows_or_none(read: Callable[[], list[ViewRow]]) -> list[ViewRow]:
    try:
        return read()
    except MissingTableError:  # the schema of an earlier release, until the pipeline runs
        return []
    except RefusedRowsError as error:  # an earlier schema has no limits for prices: one row may overflow a sum
        log.warning("a figure of the ledger is left out, because a stored value breaks it: %s", error)
        return []
