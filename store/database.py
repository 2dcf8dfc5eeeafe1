"""Cells and answers in a database, through SQLAlchemy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from ..errors import StoreError
from . import schema
from .claims import Claims
from .migrating import migrate
from .postgres import PREFIX, postgres_engine, without_password
from .records import Answer, Cell, asked_call
from .sqlite import sqlite_engine

__all__ = ["Store", "as_json", "open_store", "readable"]

_T = TypeVar("_T")

_LOOKUP = 500  # examples a query: below every SQLite's limit on parameters
_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds, in which a server may come back
_CELL_NAMES = [field.name for field in fields(Cell)]
_CELL_COLUMNS = [schema.cells.c[name] for name in _CELL_NAMES]
_SIMPLE = [name for name in _CELL_NAMES if name not in ("output", "asked", "feedback", "error")]
_PUT = [*_SIMPLE, "feedback", "error", "output", "asked", "created"]
_KEYS = [column.name for column in schema.cells.primary_key]
# On the path of every call, where building a statement would cost more than running it.
_GET_ANSWER = "SELECT value, input_tokens, output_tokens, seconds FROM answers WHERE key = ?"
_PUT_CELL = (
    f"INSERT INTO cells ({', '.join(_PUT)}) VALUES ({', '.join('?' * len(_PUT))}) "  # noqa: S608 — our own names
    f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in _PUT if name not in _KEYS)}"
)
_PUT_ANSWER = (
    "INSERT INTO answers (key, value, input_tokens, output_tokens, seconds, created) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO NOTHING"
)


class Store:
    """Remembers cells and answers; safe to share between threads, and a database between processes and machines.

    Every write is committed when its method returns. Use it as a context manager, or call `close`.

    Attributes:
        where: The file, or the URL without its password.
        claims: Of answers that are being asked for.

    >>> with open_store(":memory:") as store:
    ...     store.put_cells([Cell("p", "e1", "exact_match(label)", score=1.0)])
    ...     [cell.score for cell in store.cells("p", "exact_match(label)", ["e1", "e2"]).values()]
    [1.0]
    """

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self.where = where
        self._engine = engine
        self._lock = threading.Lock()
        self._place = "?" if engine.dialect.name == "sqlite" else "%s"
        try:
            migrate(engine, where)
            self._connection = engine.connect()
        except DBAPIError as error:
            engine.dispose()
            raise StoreError(
                f"{where}: not a store of progspace, damaged, or not to be reached ({error.orig})"
            ) from error
        self.claims = Claims(self.run, self._owner_of, engine.dialect.name)

    @property
    def url(self) -> str:
        """The database's URL, for others who keep tables of their own in it; with its password, where it has one."""
        return self._engine.url.render_as_string(hide_password=False)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return str(self._engine.dialect.name)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; a second call does nothing."""
        self.claims.close()
        with self._lock:
            self._connection.close()
            self._engine.dispose()

    def cells(self, program: str, metric: str, examples: Sequence[str], repeat: int = 0) -> dict[str, Cell]:
        """Gives the known cells of a program on some examples, by example; failed ones (no score) are not known."""
        own = schema.cells.c.program == program
        return {cell.example: cell for cell in self._known(metric, examples, repeat, own)}

    def all_cells(self, metric: str, examples: Sequence[str]) -> dict[str, dict[str, Cell]]:
        """Gives the known cells of all programs on some examples, by program and example; of the first repeat."""
        known: dict[str, dict[str, Cell]] = {}
        for cell in self._known(metric, examples, 0):
            known.setdefault(cell.program, {})[cell.example] = cell
        return known

    def _known(
        self, metric: str, examples: Sequence[str], repeat: int, *where: sa.ColumnElement[bool]
    ) -> Iterator[Cell]:
        table = schema.cells
        for start in range(0, len(examples), _LOOKUP):
            query = sa.select(*_CELL_COLUMNS).where(
                *where,
                table.c.metric == metric,
                table.c.repeat == repeat,
                table.c.score.is_not(None),
                table.c.example.in_(examples[start : start + _LOOKUP]),
            )
            for row in self.read(query):
                with self._damage(f"cell {row.program}, {row.example}"):
                    yield _cell(row)

    def put_cells(self, cells: Iterable[Cell]) -> None:
        """Stores cells; one of the same program, metric, example and repeat gives way."""
        now = time.time()
        rows = [
            (
                *(getattr(cell, name) for name in _SIMPLE),
                *map(readable, (cell.feedback, cell.error)),
                *map(as_json, (cell.output, cell.asked)),
                now,
            )
            for cell in cells
        ]
        if rows:
            self.run(_PUT_CELL, rows)

    def answer(self, key: str) -> Answer | None:
        """Gives a stored answer."""
        row = self._do(lambda connection: connection.exec_driver_sql(self._sql(_GET_ANSWER), (key,)).first())
        if row is None:
            return None
        with self._damage(f"answer {key}"):
            return Answer(key, json.loads(row[0]), *row[1:])

    def put_answer(self, answer: Answer) -> None:
        """Stores an answer; the first one of a key stays."""
        tokens = (answer.input_tokens, answer.output_tokens)
        self.run(_PUT_ANSWER, [(answer.key, as_json(answer.value), *tokens, answer.seconds, time.time())])

    def latest_answers(self, limit: int) -> list[tuple[float, Any]]:
        """Gives the answers that were stored last, in the order in which they were, each with its time in seconds."""
        table = schema.answers
        newest = sa.select(table.c.created, table.c.value).order_by(table.c.created.desc()).limit(limit)
        return [(float(row.created), json.loads(row.value)) for row in reversed(self.read(newest))]

    def count(self, table: str) -> int:
        """Counts the rows of a table, ``cells`` or ``answers``."""
        return int(self.read(sa.select(sa.func.count()).select_from(schema.metadata.tables[table]))[0][0])

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{self.where}: {what} is damaged ({error}); `progspace store check --delete` takes it out, and it is "
                "bought again when it is needed"
            ) from error

    def _owner_of(self, key: str) -> str | None:
        rows = self.read(sa.select(schema.claims.c.owner).where(schema.claims.c.key == key))
        return str(rows[0].owner) if rows else None

    def read(self, query: Any) -> Sequence[sa.Row[Any]]:
        """Gives the rows of a query.

        Raises:
            StoreError: It cannot be read.
        """
        return self._do(lambda connection: connection.execute(query).all())

    def run(self, statement: str, rows: Sequence[tuple[Any, ...]] = ((),)) -> int:
        """Runs a statement, with ``?`` where values stand, and commits; gives how many rows it changed.

        Raises:
            StoreError: It cannot be written.
        """

        def write(connection: sa.Connection) -> int:
            changed = connection.exec_driver_sql(self._sql(statement), list(rows)).rowcount
            connection.commit()
            return int(changed)

        return self._do(write, "written")

    def _sql(self, statement: str) -> str:
        return statement.replace("?", self._place)

    def _do(self, run: Callable[[sa.Connection], _T], what: str = "read") -> _T:
        """Runs something on the connection; where a server went away, it is waited for, and asked anew.

        All statements here may run twice: what is there already stays, or is replaced by the same.
        """
        for pause in (*_PAUSES, None):
            try:
                with self._lock, self._undone():
                    return run(self._connection)
            except DBAPIError as error:
                gone = isinstance(error, OperationalError | InterfaceError) and self.dialect != "sqlite"
                if pause is None or not gone:
                    told = f"{self.where}: cannot be {what} ({error.orig})"
                    raise StoreError(told + "; nothing stored before is lost" * (what == "written")) from error
                time.sleep(pause)
        raise AssertionError  # the last pause is None

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Undoes what failed, before another thread uses the connection."""
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise


def as_json(value: Any) -> str:
    """Writes a value as the store keeps it: readable, but for half characters, which are no UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if _is_utf8(text) else json.dumps(value, separators=(",", ":"))


def readable(text: str | None) -> str | None:
    """Gives what people read, without what PostgreSQL (NUL) or UTF-8 (half characters) does not hold."""
    if text is None or ("\0" not in text and _is_utf8(text)):
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cell(row: sa.Row[Any]) -> Cell:
    cell = Cell(**row._mapping)
    asked = tuple(asked_call(*call) for call in json.loads(str(cell.asked)))
    return replace(cell, output=json.loads(str(cell.output)), asked=asked)


def open_store(where: str | Path) -> Store:
    """Opens a store, and makes it where there is none; one of an older release is brought to this one.

    Args:
        where: A file's path, ``:memory:``, a ``sqlite:///`` URL, or ``postgresql+psycopg://user@host/database``.

    Raises:
        StoreError: It is no store, is damaged, of a newer release, not to be reached, or cannot be written.
    """
    text = str(where)
    if text.startswith(PREFIX):
        engine = postgres_engine(text)
        return Store(engine, without_password(text))
    if "://" in text and not text.startswith("sqlite:///"):
        raise StoreError(
            f"{text.split('://')[0]}://…: is no store; name a file, or a database: {PREFIX}user@host/database"
        )
    path = text
    if text.startswith("sqlite:///"):
        url = sa.make_url(text)
        if url.query:
            raise StoreError(f"{text}: a store's URL has no settings (?…); of a file that is called so, give the path")
        path = url.database or ""
    if path.startswith("file:"):
        raise StoreError(f"{path}: is an address of SQLite's own; give the file's path (./{path}, if it is called so)")
    if path != ":memory:":
        path = str(Path(path).expanduser())
    return Store(sqlite_engine(path), path)
