"""SQLite files that threads and processes share."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import StoreError

__all__ = ["sqlite_engine"]

_TIMEOUT = 60.0  # seconds that a file may be locked by others
_PAUSE = 0.01


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
        sa.URL.create("sqlite", database=str(path)),  # in a text, ? and % of the path would mean something else
        poolclass=sa.pool.StaticPool,
        connect_args={"check_same_thread": False, "timeout": _TIMEOUT},
        **settings,
    )

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        # WAL: readers and one writer side by side, and what is committed outlives a killed process.
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turns to WAL, which two that open a new file at once refuse each other without the wait that they were given."""
    ends = time.monotonic() + _TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(_PAUSE)
        else:
            return
