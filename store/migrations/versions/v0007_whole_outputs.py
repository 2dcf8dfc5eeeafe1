"""Whether a trace holds its outputs as they were, whatever was taken out of its inputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds it to traces; of those that are there it is known where all of it is whole."""
    op.add_column("traces", sa.Column("outputs_whole", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE traces SET outputs_whole = whole")
