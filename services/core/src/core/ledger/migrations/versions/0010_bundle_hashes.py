"""Version 10: the hashes of trained bundles and of champions, which a predictor compares with those in MLflow."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the hashes. They are null for rows of an earlier release, until `pipeline.trust` records them."""
    op.execute(
        """
        -- sha256 of the bundle's manifest; empty: the model has no bundle that may serve
        alter table ledger.trainings add column manifest_sha256 text;
        alter table ledger.champions add column manifest_sha256 text;
        """
    )
