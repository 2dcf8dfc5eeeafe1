"""Batches, which may take longer than the process that sent them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds them."""
    op.create_table(
        "batches",
        sa.Column("input_file", sa.String, primary_key=True),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("id", sa.String),
        sa.Column("requests", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
