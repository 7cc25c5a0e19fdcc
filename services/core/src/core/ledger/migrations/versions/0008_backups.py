"""Version 8: finished backups, for the metric and the alert of their age."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create backups. The role `backup` of the server writes them; `core.ledger.connection` grants it the right."""
    op.execute(
        """
        create table ledger.backups (
            id text primary key,                    -- name of a full backup, or `wal`: the last copy of WAL and objects
            kind text not null check (kind in ('full', 'wal')),
            finished_at timestamptz not null,       -- after its verification
            bytes bigint not null,                  -- of the compressed base backup; 0 for `wal`
            wal_end pg_lsn not null                 -- the copied WAL ends here
        );
        """
    )
