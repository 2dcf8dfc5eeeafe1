"""Is run by Alembic: takes the steps that are wanted on the connection that it is given."""

from __future__ import annotations

from alembic import context

VERSIONS = "progspace_schema"
"""The table that holds the last step; ``alembic_version`` is Optuna's, whose studies stand in the same database."""

context.configure(connection=context.config.attributes["connection"], version_table=VERSIONS)
with context.begin_transaction():
    context.run_migrations()
