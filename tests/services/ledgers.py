"""Databases with the newest schema for tests. One database per server is migrated, and the others are copies of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property

import psycopg
from psycopg.rows import dict_row

from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from core.ledger.connection import Connection


class ConnectedLedger(Ledger):
    """A ledger whose calls share one connection, one transaction each. Thousands of connections take half a minute."""

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._connection.transaction():
            yield self._connection

    @cached_property
    def _connection(self) -> Connection:
        return psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self._connection.close()


@cache
def template(platform: LocalPlatform) -> str:
    """Name of a database with the newest schema and no rows. Do not connect to it, or PostgreSQL cannot copy it."""
    name = "ledger_template"
    Ledger(platform.database(name)).ensure_schema()
    return name


def trust_as_champion(dsn: str, version: str, sha256: str) -> None:
    """Record a bundle as a promotion does, so that predictors may serve it."""
    Ledger(dsn).add_move(version, None, "promotion", "test", sha256)


def trust_as_trained(dsn: str, version: str, sha256: str) -> None:
    """Record a bundle as a training does, so that predictors may compare it in the shadow."""
    Ledger(dsn).add_training(f"run-{version}", 0, [], 1, "test", {}, sha256)


def new_ledger(platform: LocalPlatform, name: str) -> str:
    """URL of a new database with this name and the newest schema."""
    return platform.database(name, template=template(platform))
