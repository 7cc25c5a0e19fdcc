"""How Alembic runs the versions: on the connection that `core.migrations.upgrade` holds, all in one transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="ledger")
context.run_migrations()
