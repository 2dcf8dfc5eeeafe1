"""Whether a trace holds its content as it was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds it to traces; of those that are there it is not known, so they do not count as whole."""
    op.add_column("traces", sa.Column("whole", sa.Integer, nullable=False, server_default="0"))
