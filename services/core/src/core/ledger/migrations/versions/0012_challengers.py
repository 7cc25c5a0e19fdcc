"""Version 12: a log of the moves of the challenger's alias."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the log. Moves of an earlier release are not known."""
    op.execute(
        """
        create table ledger.challengers (
            id bigint generated always as identity primary key,
            version text,                   -- that has the alias after the move; null: none
            before text,                    -- that had the alias before; null: none
            run text,                       -- the run that moved it
            actor text,                     -- as in `ledger.champions`
            at timestamptz not null default now()
        );
        """
    )
