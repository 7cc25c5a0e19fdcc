"""Alembic environment: runs all versions in one transaction, on the connection of `core.ledger.migrations.upgrade`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="ledger")
context.run_migrations()
