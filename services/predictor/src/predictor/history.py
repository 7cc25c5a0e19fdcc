"""The ledger as the service reads it: with short time-outs, because people and probes wait for the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg.errors import UndefinedTable

from core.errors import LedgerError
from core.ledger import Ledger

TIMEOUT_SECONDS = 3


class LedgerHistory:
    """Reads what happened to every batch."""

    def __init__(self, dsn: str) -> None:
        self._ledger = Ledger(dsn, connect_timeout=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS)

    def read(self) -> dict[str, Any]:
        """`batches` as they came, `gaps`, `champions`, `live_errors`; all empty before the pipeline's first run.

        Raises:
            LedgerError: the database did not answer.
        """
        try:
            return {
                "batches": self._ledger.history(),
                "gaps": self._ledger.gaps(),
                "champions": _if_there(self._ledger.champions),
                "live_errors": _if_there(self._ledger.live_errors),
            }
        except LedgerError as failed:
            if isinstance(failed.__cause__, UndefinedTable):  # the pipeline's first stage makes the schema
                return {"batches": [], "gaps": [], "champions": [], "live_errors": []}
            raise


def _if_there(read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return read()
    except LedgerError as failed:
        if isinstance(failed.__cause__, UndefinedTable):  # a schema of a release before, until the pipeline runs
            return []
        raise
