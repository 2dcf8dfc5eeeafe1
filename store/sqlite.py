"""SQLite files that threads and processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import StoreError

__all__ = ["sqlite_engine"]


def sqlite_engine(path: str | Path, **settings: Any) -> sa.Engine:
    """Gives an engine of one connection on a file, whose folder is made where it is missing, or on ``:memory:``.

    Args:
        path: The file.
        settings: Further ones of ``sqlalchemy.create_engine``.

    Raises:
        StoreError: The folder cannot be made.

    >>> with sqlite_engine(":memory:").connect() as connection:
    ...     connection.execute(sa.text("SELECT 1")).scalar_one()
    1
    """
    if str(path) != ":memory:":
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: the folder cannot be made ({error})") from error
    engine = sa.create_engine(
        f"sqlite:///{path}",
        poolclass=sa.pool.StaticPool,
        connect_args={"check_same_thread": False, "timeout": 60},
        **settings,
    )

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        # WAL: readers and one writer side by side, and what is committed outlives a killed process.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine
