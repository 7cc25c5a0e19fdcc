"""Version 3: a log of the moves of the champion's alias, with those of earlier promotions."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the log and fill it with the promotions so far."""
    op.execute(
        """
        create table ledger.champions (
            id bigint generated always as identity primary key,
            version text not null,          -- that has the alias after the move
            before text,                    -- that had the alias before; null for the first
            kind text not null check (kind in ('promotion', 'rollback')),
            reason text not null,
            run text,                       -- the run that moved it
            at timestamptz not null default now()
        );
        insert into ledger.champions (version, before, kind, reason, at)
            select version, champion, 'promotion', reason, decided_at
            from ledger.promotions where promoted order by decided_at;
        """
    )
