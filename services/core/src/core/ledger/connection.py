"""Connections to the ledger's database: time-outs, transactions, and the version of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from core.errors import LedgerAwayError, LedgerError, MissingTableError, RefusedRowsError
from core.ledger import migrations

Connection = psycopg.Connection[dict[str, Any]]

READER = "predictor"
BACKUP = "backup"
# Rights of other roles than the owner; a role that does not exist is skipped.
RIGHTS = {
    READER: (
        "usage on schema ledger",
        "select on all tables in schema ledger",
        "insert on ledger.predictions, ledger.prediction_batches, ledger.feedback, ledger.shadow_prices",
        "execute on function ledger.forget_predictions, ledger.forget_shadow_prices, ledger.forget_predictions_beyond",
    ),
    BACKUP: ("usage on schema ledger", "select, insert, update on ledger.backups"),
}
# detects a server that disappeared without closing the connection after 25 s instead of hours
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


class Database:
    """Opens one connection per call: stages are short, and a call with a lost connection can be repeated."""

    def __init__(
        self,
        dsn: str,
        connect_timeout: int = 5,
        statement_timeout: int = 30,
        run: str = "by hand",
        actor: str = "unknown",
    ) -> None:
        """Store the settings; no connection is opened yet.

        Args:
            dsn: URL of the database.
            connect_timeout: seconds.
            statement_timeout: seconds.
            run: name of the writer, stored with the rows.
            actor: who started the writer, stored with moves of the champion's alias.
        """
        self._dsn = dsn
        self._run = run
        self._actor = actor
        self._connect_timeout = connect_timeout
        self._options = f"-c statement_timeout={statement_timeout * 1000}"

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """A transaction: commits when the block ends, rolls back on an error.

        Raises:
            LedgerAwayError, MissingTableError, RefusedRowsError, LedgerError: the database failed.
        """
        try:
            with self._open(row_factory=dict_row) as connection:
                yield connection
        except psycopg.Error as error:
            lines = str(error).strip().splitlines() or [repr(error)]
            raise _kind(error)(f"the ledger's database failed: {lines[0]}") from error

    def _open(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._dsn, connect_timeout=self._connect_timeout, options=self._options, **_KEEPALIVE, **options
        )

    def ensure_schema(self) -> None:
        """Migrate the schema to the version of this code and grant the other roles their rights. Idempotent.

        Several processes may call this at the same time.
        """
        with self._connect() as connection:
            current = migrations.is_current(connection)
        if not current:
            migrations.upgrade(self._open)
        with self._connect() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [migrations.LOCK])
            for role, rights in RIGHTS.items():
                if connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
                    for right in rights:
                        statement = "grant " + right + " to {}"
                        connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


def _kind(error: psycopg.Error) -> type[LedgerError]:
    if isinstance(error, psycopg.errors.UndefinedTable):
        return MissingTableError
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return RefusedRowsError
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return LedgerAwayError
    return LedgerError
