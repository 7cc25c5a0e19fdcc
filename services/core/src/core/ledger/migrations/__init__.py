"""Migrations of the ledger's schema. Each version is an Alembic file `versions/<number>_<name>.py`; forward only.

Never change the SQL of a released version. Add a new file instead, whose `down_revision` is the previous number. During
an upgrade, the previous release runs with the new schema for a while. So a version may only add what the previous
release can work with; a breaking change takes two releases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from core.errors import LedgerError

FOLDER = Path(__file__).parent
NEWEST = max(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))
LOCK = 72_615_003  # advisory lock of PostgreSQL: one process at a time changes the schema


def is_current(connection: psycopg.Connection[dict[str, object]]) -> bool:
    """Whether the schema has the version of this code.

    Raises:
        LedgerError: the schema is newer.
    """
    table = connection.execute("select to_regclass('ledger.alembic_version') as versions").fetchone()
    if not table or table["versions"] is None:
        return False
    row = connection.execute("select version_num from ledger.alembic_version").fetchone()
    version = str(row["version_num"]) if row else ""
    if version > NEWEST:
        raise LedgerError(
            f"the ledger's schema is version {version}, this image knows {NEWEST}: deploy the image that made it, or a "
            "newer one"
        )
    return version == NEWEST


def upgrade(connect: Callable[[], psycopg.Connection[dict[str, object]]]) -> None:
    """Migrate the schema to `NEWEST` in one transaction. Concurrent callers wait, and then have nothing to do.

    Raises:
        LedgerError: a version failed; the schema is unchanged.
    """
    # Imported here, because only the pipeline's image has them: the predictor never migrates the schema.
    import sqlalchemy
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=sqlalchemy.NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
            connection.exec_driver_sql("create schema if not exists ledger")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise LedgerError(
            f"the ledger's schema cannot be migrated to version {NEWEST}: {str(error).splitlines()[0]}"
        ) from error
