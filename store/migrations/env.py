"""Is run by Alembic: takes the steps that are wanted on the connection that it is given."""

from __future__ import annotations

from alembic import context

context.configure(**context.config.attributes)
with context.begin_transaction():
    context.run_migrations()
