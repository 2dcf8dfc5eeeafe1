"""How searches ran: what the report page shows besides cells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds searches, and the events of each."""
    op.create_table(
        "searches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("task_hash", sa.String, nullable=False),
        sa.Column("lm", sa.String, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("began", sa.Float, nullable=False),
    )
    op.create_table(
        "search_events",
        sa.Column("search", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
