"""Version 7: runs that resumed a batch after its decision."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create resumptions. `ledger.recoveries` is no longer used; a later version drops it."""
    op.execute(
        """
        create table ledger.resumptions (
            batch_number integer not null,
            sha256 text not null,
            run text not null,                      -- DAG run that resumed it
            at timestamptz not null default now(),
            foreign key (batch_number, sha256) references ledger.batches
        );
        create index resumptions_batch on ledger.resumptions (batch_number, sha256);
        """
    )
