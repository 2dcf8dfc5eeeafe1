"""Cells and answers in a database, through SQLAlchemy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from ..errors import StoreError
from .records import Answer, Cell
from .sqlite import sqlite_engine

__all__ = ["SCHEMA_VERSION", "Store", "open_store"]

SCHEMA_VERSION = 1
_LOOKUP = 500  # examples a query: below every SQLite's limit on parameters

_metadata = sa.MetaData()
_meta = sa.Table("meta", _metadata, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String))
_cells = sa.Table(
    "cells",
    _metadata,
    sa.Column("program", sa.String, primary_key=True),
    sa.Column("metric", sa.String, primary_key=True),
    sa.Column("example", sa.String, primary_key=True),
    sa.Column("repeat", sa.Integer, primary_key=True),
    sa.Column("score", sa.Float),
    sa.Column("feedback", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("output", sa.JSON, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
_answers = sa.Table(
    "answers",
    _metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
_CELL_NAMES = [field.name for field in fields(Cell)]
_CELL_COLUMNS = [_cells.c[name] for name in _CELL_NAMES]
# On the path of every call, where building a statement would cost more than running it.
_GET_ANSWER = "SELECT value, input_tokens, output_tokens, seconds FROM answers WHERE key = ?"
_SIMPLE = [name for name in _CELL_NAMES if name not in ("output", "asked")]
_PUT_CELL = (
    f"INSERT OR REPLACE INTO cells ({', '.join(_SIMPLE)}, output, asked, created) "  # noqa: S608 — our own names
    f"VALUES ({', '.join('?' * (len(_SIMPLE) + 3))})"
)
_PUT_ANSWER = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


class Store:
    """Remembers cells and answers; safe to share between threads, and a file between processes.

    Every write is committed when its method returns. Use it as a context manager, or call `close`.

    >>> with open_store(":memory:") as store:
    ...     store.put_cells([Cell("p", "e1", "exact_match(label)", score=1.0)])
    ...     [cell.score for cell in store.cells("p", "exact_match(label)", ["e1", "e2"]).values()]
    [1.0]
    """

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self.where = where
        self._engine = engine
        self._lock = threading.Lock()
        try:
            _metadata.create_all(engine)
            with engine.begin() as connection:
                connection.execute(
                    insert(_meta).values(key="schema", value=str(SCHEMA_VERSION)).on_conflict_do_nothing()
                )
                found = connection.execute(sa.select(_meta.c.value).where(_meta.c.key == "schema")).scalar_one()
        except DatabaseError as error:
            raise StoreError(f"{where}: not a store of progspace, or damaged ({error.orig})") from error
        if int(found) != SCHEMA_VERSION:
            raise StoreError(
                f"{where}: a store of schema {found}, and this release knows {SCHEMA_VERSION}; "
                "use the release that made it, or name another file with --store"
            )
        self._connection = engine.connect()

    @property
    def url(self) -> str:
        """The database's URL, for others who keep tables of their own in it."""
        return self._engine.url.render_as_string(hide_password=False)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; a second call does nothing."""
        with self._lock:
            self._connection.close()
            self._engine.dispose()

    def cells(self, program: str, metric: str, examples: Sequence[str], repeat: int = 0) -> dict[str, Cell]:
        """Gives the known cells of a program on some examples, by example; failed ones (no score) are not known."""
        known: dict[str, Cell] = {}
        for start in range(0, len(examples), _LOOKUP):
            query = sa.select(*_CELL_COLUMNS).where(
                _cells.c.program == program,
                _cells.c.metric == metric,
                _cells.c.repeat == repeat,
                _cells.c.score.is_not(None),
                _cells.c.example.in_(examples[start : start + _LOOKUP]),
            )
            known.update((row.example, _cell(row)) for row in self._read(query))
        return known

    def put_cells(self, cells: Iterable[Cell]) -> None:
        """Stores cells; one of the same program, metric, example and repeat gives way."""
        now = time.time()
        rows = [
            (*(getattr(cell, name) for name in _SIMPLE), _json(cell.output), _json(cell.asked), now) for cell in cells
        ]
        if rows:
            self._write(_PUT_CELL, rows)

    def answer(self, key: str) -> Answer | None:
        """Gives a stored answer."""
        try:
            with self._lock:
                row = self._connection.exec_driver_sql(_GET_ANSWER, (key,)).first()
        except DatabaseError as error:
            raise self._unreadable(error) from error
        return Answer(key, json.loads(row[0]), *row[1:]) if row is not None else None

    def put_answer(self, answer: Answer) -> None:
        """Stores an answer; the first one of a key stays."""
        tokens = (answer.input_tokens, answer.output_tokens)
        self._write(_PUT_ANSWER, [(answer.key, _json(answer.value), *tokens, answer.seconds, time.time())])

    def latest_answers(self, limit: int) -> list[tuple[float, Any]]:
        """Gives the answers that were stored last, in the order in which they were, each with its time in seconds."""
        newest = sa.select(_answers.c.created, _answers.c.value).order_by(_answers.c.created.desc()).limit(limit)
        return [(float(row.created), row.value) for row in reversed(self._read(newest))]

    def count(self, table: str) -> int:
        """Counts the rows of a table, ``cells`` or ``answers``."""
        counted = self._read(sa.select(sa.func.count()).select_from({"cells": _cells, "answers": _answers}[table]))
        return int(counted[0][0])

    def _read(self, query: Any) -> Sequence[sa.Row[Any]]:
        try:
            with self._lock:
                return self._connection.execute(query).all()
        except DatabaseError as error:
            raise self._unreadable(error) from error

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            with self._lock:
                self._connection.exec_driver_sql(statement, rows)
                self._connection.commit()
        except DatabaseError as error:
            raise self._unwritable(error) from error

    def _unreadable(self, error: DatabaseError) -> StoreError:
        return StoreError(f"{self.where}: cannot be read ({error.orig})")

    def _unwritable(self, error: DatabaseError) -> StoreError:
        return StoreError(f"{self.where}: cannot be written ({error.orig}); nothing stored before is lost")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cell(row: sa.Row[Any]) -> Cell:
    cell = Cell(**row._mapping)
    return replace(cell, asked=tuple((str(key), int(tin), int(tout)) for key, tin, tout in cell.asked))


def open_store(where: str | Path) -> Store:
    """Opens a store, and makes it where there is none.

    Args:
        where: A file's path, ``:memory:``, or a ``sqlite:///`` URL.

    Raises:
        StoreError: The file is no store, is damaged, of another schema, or cannot be written.
    """
    text = str(where)
    if "://" in text and not text.startswith("sqlite:///"):
        raise StoreError(f"{text.split('://')[0]}://…: only SQLite stores can be opened yet; name a file")
    path = text.removeprefix("sqlite:///")
    if path != ":memory:":
        path = str(Path(path).expanduser())
    engine = sqlite_engine(
        path, json_serializer=lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )
    return Store(engine, path)
