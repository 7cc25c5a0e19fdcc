"""The versions of the ledger's schema, in `versions/`, each a file `<number>_<what>.py` of Alembic; forward only.

A version that was released is never edited: a change is a new file, whose `down_revision` is the number before. Code
and schema meet by number, so a version may only add what the code before it can live with, or comes in two releases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from core.errors import LedgerError

FOLDER = Path(__file__).parent
NEWEST = max(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))
LOCK = 72_615_003  # advisory lock of PostgreSQL: one at a time changes the schema


def is_current(connection: psycopg.Connection[dict[str, object]]) -> bool:
    """Whether the schema is of the version that this code knows.

    Raises:
        LedgerError: it is newer.
    """
    found = connection.execute("select to_regclass('ledger.alembic_version') as versions").fetchone()
    if not found or found["versions"] is None:
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
    """Bring the schema to `NEWEST`, wholly or not at all; whoever comes at the same time waits and finds it done.

    Raises:
        LedgerError: a version failed; the schema is as it was.
    """
    # Here, because only the pipeline's image holds them: the predictor reads the ledger and never changes it.
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
            f"the ledger's schema cannot become version {NEWEST}: {str(error).splitlines()[0]}"
        ) from error
