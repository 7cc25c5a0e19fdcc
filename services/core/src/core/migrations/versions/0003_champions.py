"""Every move of the champion's alias is a row, those of promotions before this version included."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A log of moves, filled with the promotions so far."""
    op.execute(
        """
        create table ledger.champions (
            id bigint generated always as identity primary key,
            version text not null,          -- that the alias names from here on
            before text,                    -- that it named until then; null for the first
            kind text not null check (kind in ('promotion', 'rollback')),
            reason text not null,
            run text,                       -- that moved it
            at timestamptz not null default now()
        );
        insert into ledger.champions (version, before, kind, reason, at)
            select version, champion, 'promotion', reason, decided_at
            from ledger.promotions where promoted order by decided_at;
        """
    )
