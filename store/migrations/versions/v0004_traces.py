"""Traces of watched programs, and what was said of them later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "traces",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("unreadable", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("fallbacks", sa.Integer, nullable=False),
        sa.Column("abstained", sa.Integer, nullable=False),
        sa.Column("confidence", sa.Float),
        sa.Column("signals", sa.Text, nullable=False),
        sa.Column("declared", sa.Float),
        sa.Column("inputs", sa.Text),
        sa.Column("outputs", sa.Text),
    )
    op.create_index("traces_name_created", "traces", ["name", "created"])
    op.create_table(
        "feedback",
        sa.Column("trace", sa.String, primary_key=True),
        sa.Column("score", sa.Float),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
