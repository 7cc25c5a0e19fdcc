"""The platform that owns the ledger, so that two platforms never use one ledger by mistake."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import LedgerError, OwnershipError
from core.ledger.connection import Connection, Database


@dataclass(frozen=True)
class Platform:
    """A platform: the id of its ledger, made when the ledger is claimed, and its name in the settings."""

    id: str
    name: str


class Ownership(Database):
    """Reads and writes the owner of the ledger."""

    def open_for(self, name: str) -> None:
        """Migrate the schema (`ensure_schema`), and claim a ledger that has no owner for the platform `name`.

        Idempotent. The owner is checked before the migration, so that a platform never migrates another one's ledger.

        Raises:
            OwnershipError: another platform owns the ledger. Nothing has changed.
        """
        with self._connect() as connection:
            table = connection.execute("select to_regclass('ledger.platform') is not null as exists").fetchone()
            if table and table["exists"]:
                _check(_owner(connection), name)
        self.ensure_schema()
        with self._connect() as connection:
            connection.execute("insert into ledger.platform (name) values (%s) on conflict do nothing", [name])
            _check(_owner(connection), name)

    def find_owner(self) -> Platform | None:
        """The platform that owns the ledger; None if no platform has claimed it yet."""
        with self._connect() as connection:
            return _owner(connection)

    def owner(self) -> Platform:
        """The platform that owns the ledger.

        Raises:
            LedgerError: no platform has claimed it yet.
        """
        owner = self.find_owner()
        if owner is None:
            raise LedgerError("no platform has claimed the ledger: run a stage of the pipeline first")
        return owner

    def take_over(self, name: str) -> Platform:
        """Make the platform `name` the owner of the ledger, whatever the owner was. The ledger's id stays."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.platform (name) values (%(name)s) on conflict (one)"
                " do update set name = %(name)s, claimed_at = now() where platform.name <> %(name)s",
                {"name": name},
            )
        return self.owner()


def _owner(connection: Connection) -> Platform | None:
    row = connection.execute("select id, name from ledger.platform").fetchone()
    return Platform(str(row["id"]), row["name"]) if row else None


def _check(owner: Platform | None, name: str) -> None:
    if owner and owner.name != name:
        raise OwnershipError(
            f"the ledger belongs to the platform {owner.name!r}, and this is the platform {name!r}: nothing was "
            "changed. Give this platform a database of its own (LEDGER_DSN, Secret pipeline). If it replaces the "
            f"other one, which no longer runs: python -m pipeline takeover --owner {owner.name}"
        )
