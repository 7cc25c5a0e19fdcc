"""Version 11: who moved the champion's alias."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the actor. It is null for moves of an earlier release."""
    op.execute(
        """
        -- the user of Airflow who started the run, or the user who ran the command; see `pipeline.context`
        alter table ledger.champions add column actor text;
        """
    )
