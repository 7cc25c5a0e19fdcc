"""The ledger: a PostgreSQL schema with the history of batches, decisions, trainings and predictions.

The package exports `Ledger` and the records `Batch` and `Platform`. Each part of `Ledger` is a class in a module of its
own. This is the only package that knows PostgreSQL. The first process that needs the schema creates it
(`ensure_schema`, versions in `core.ledger.migrations`). Writes are idempotent: each is keyed by batch number and
content hash, by MLflow run, or by an id of its own; `add_move` and `add_shadow_prices` always add rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from core.errors import LedgerError
from core.ledger.batches import Batch
from core.ledger.calls import Calls
from core.ledger.connection import Connection
from core.ledger.decisions import Decisions
from core.ledger.history import History
from core.ledger.platform import Ownership, Platform
from core.ledger.predictions import Predictions
from core.ledger.trainings import Trainings
from core.ledger.trust import Trust

__all__ = ["Batch", "Ledger", "Platform"]

_EXCLUSIVE_LOCK = 72_615_004  # advisory lock of PostgreSQL


class Ledger(Ownership, Calls, Decisions, Trainings, Trust, Predictions, History):
    """Reads and writes all of the ledger."""

    @contextmanager
    def exclusive(self, seconds: int = 900) -> Iterator[Ledger]:
        """Exclusive transaction: commits when the block ends, rolls back on an error.

        Only one process at a time is in such a transaction. It protects actions that must not run twice at the same
        time, such as moving the champion's alias. All calls of the ledger that it yields belong to the transaction.

        Args:
            seconds: to wait for another process to leave its exclusive transaction.

        Raises:
            LedgerError: the other process needs more time than that.
        """
        with self._connect() as connection:
            try:
                connection.execute("select set_config('lock_timeout', %s, true)", [f"{seconds}s"])
                connection.execute("select set_config('statement_timeout', '0', true)")
                connection.execute("select pg_advisory_xact_lock(%s)", [_EXCLUSIVE_LOCK])
            except psycopg.errors.LockNotAvailable as taken:
                raise LedgerError(
                    f"another promotion or rollback is still running after {seconds} s: try again"
                ) from taken
            yield _InTransaction(connection, self._run, self._actor)


class _InTransaction(Ledger):
    """A ledger whose calls all belong to one transaction, which ends outside of it."""

    def __init__(self, connection: Connection, run: str, actor: str) -> None:
        self._connection = connection
        self._run = run
        self._actor = actor

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        yield self._connection
