"""Claims and limits, which several workers share; answers in the order in which they came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds them; the table that held the schema's number has had its day."""
    op.create_table(
        "claims",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table("limits", sa.Column("endpoint", sa.String, primary_key=True), sa.Column("state", sa.Text))
    op.create_index("answers_created", "answers", ["created"])
    op.execute("DROP TABLE IF EXISTS meta")
