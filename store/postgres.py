"""PostgreSQL, as a store that many machines share."""

from __future__ import annotations

import importlib.util
import re

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from ..errors import StoreError

__all__ = ["PREFIX", "postgres_engine", "without_password"]

PREFIX = "postgresql+psycopg://"


def postgres_engine(url: str) -> sa.Engine:
    """Gives an engine of one connection on a PostgreSQL database; it is not connected to yet.

    Args:
        url: ``postgresql+psycopg://user@host/database``; what it leaves out is read from libpq's environment
            (``PGPASSWORD``, ``~/.pgpass``, …), so that the password need not stand in it.

    Raises:
        StoreError: It is no such URL, or psycopg is missing.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"the store's URL cannot be read: it should be like {PREFIX}user@host/database") from None
    if importlib.util.find_spec("psycopg") is None:
        raise StoreError("PostgreSQL needs psycopg: pip install 'progspace[postgres]'")
    # One connection, which several threads take in turn: each statement is short, and stands for itself.
    return sa.create_engine(
        parsed,
        poolclass=sa.pool.StaticPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": 10, "application_name": "progspace"},
    )


def without_password(where: str) -> str:
    """Gives a store's place as it may be shown.

    >>> without_password("postgresql+psycopg://me:secret@db/team"), without_password("runs.db")
    ('postgresql+psycopg://me:***@db/team', 'runs.db')
    >>> without_password("postgresql+psycopg://me@db/team?password=secret&sslmode=require")
    'postgresql+psycopg://me@db/team?password=***&sslmode=require'
    """
    shown = re.sub(r"^(\w[\w+]*://[^:/@]*):[^@]*@(?:[^/?]*@)?", r"\1:***@", where)
    return re.sub(r"(?<=[?&])(\w*(?:password|secret)\w*)=[^&]*", r"\1=***", shown) if "://" in shown else shown
