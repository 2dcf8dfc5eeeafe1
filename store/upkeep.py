"""What keeps a store in order: how large it is, what may go, what is damaged, and how it is carried elsewhere."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ..errors import DataError, StoreError
from . import schema
from .database import Store
from .searches import forget_searches
from .traces import thin_out

__all__ = ["Size", "TableName", "check", "collect", "export_table", "import_table", "size"]

TableName = Literal["cells", "answers"]

_TABLES = {"cells": schema.cells, "answers": schema.answers}
_JSON = {
    "cells": ("output", "asked"),
    "answers": ("value",),
    "traces": ("signals", "inputs", "outputs"),
    "feedback": ("labels",),
}
_BATCH = 5_000  # rows
_BATCH_SECONDS = 2 * 86_400.0  # an endpoint's batch has a day, and its answers are to be fetched
_ROUNDS = 6  # of a collection by size: rows are of different sizes, so a share of them is a guess
_NAME = b"progspace.table"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a store is.

    Attributes:
        cells: How many there are.
        answers: How many there are.
        traces: How many there are.
        bytes: Of the database; a shared one may hold other things besides, Optuna's studies for one.
        oldest: When its oldest answer was stored, in seconds since 1970; None where there is none.
    """

    cells: int
    answers: int
    traces: int
    bytes: int
    oldest: float | None


def size(store: Store) -> Size:
    """Measures a store.

    >>> from .database import open_store
    >>> with open_store(":memory:") as store:
    ...     size(store).answers
    0
    """
    counted = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        "postgresql": "SELECT pg_total_relation_size('cells') + pg_total_relation_size('answers') "
        "+ pg_total_relation_size('traces')",
    }
    held = int(store.read(sa.text(counted[store.dialect]))[0][0])
    oldest = store.read(sa.select(sa.func.min(schema.answers.c.created)))[0][0]
    return Size(
        cells=store.count("cells"),
        answers=store.count("answers"),
        traces=store.count("traces"),
        bytes=held,
        oldest=None if oldest is None else float(oldest),
    )


def collect(store: Store, *, older_than: float | None = None, max_bytes: int | None = None) -> tuple[Size, Size]:
    """Deletes what is old; a search that needs it again pays for it again.

    Args:
        store: It is locked for others while its file is made smaller.
        older_than: Seconds; answers, cells, traces, batches, and how searches ran, that were stored before that go.
        max_bytes: The oldest answers go, and then the oldest cells, until the store is not larger.

    Returns:
        Its size before and after.

    Raises:
        StoreError: It cannot be written, or is larger still without a cell and an answer in it.
    """
    before = size(store)
    if older_than is not None:
        ages = {"cells": older_than, "answers": older_than, "batches": max(older_than, _BATCH_SECONDS)}
        for name, age in ages.items():
            store.run(f"DELETE FROM {name} WHERE created < ?", [(time.time() - age,)])  # noqa: S608 — our names
        thin_out(store, older_than=older_than)
        forget_searches(store, time.time() - older_than)
        _make_smaller(store)
    now = size(store)
    for _ in range(_ROUNDS):
        if max_bytes is None or now.bytes <= max_bytes:
            return before, now
        table, rows = ("answers", now.answers) if now.answers else ("cells", now.cells)
        _drop_oldest(store, table, rows - int(0.95 * rows * max_bytes / now.bytes))
        _make_smaller(store)
        now = size(store)
    raise StoreError(
        f"{store.where}: has {now.bytes:,} bytes, {max_bytes:,} are allowed, and there is little left to delete: "
        f"{now.answers:,} answers and {now.cells:,} cells"
    )


def _make_smaller(store: Store) -> None:
    store.run("VACUUM" if store.dialect == "sqlite" else "VACUUM FULL")


def _drop_oldest(store: Store, table: str, count: int) -> None:
    created = _TABLES[table].c.created
    if rows := store.read(sa.select(created).order_by(created).limit(1).offset(max(0, count - 1))):
        store.run(f"DELETE FROM {table} WHERE created <= ?", [(rows[0][0],)])  # noqa: S608


def check(store: Store, *, delete: bool = False) -> Iterator[str]:
    """Reads everything, and tells what is damaged; nothing where all is well.

    Args:
        store: To be read.
        delete: Whether damaged rows are deleted: cells and answers are bought again when they are needed; a trace is
            lost with the feedback on it.
    """
    if store.dialect == "sqlite":
        for (found,) in store.read(sa.text("PRAGMA integrity_check")):
            if found != "ok":
                yield f"the file: {found}"
    for name, fields in _JSON.items():
        keys = [column.name for column in schema.metadata.tables[name].primary_key]
        for row in _rows(store, name):
            found = [(field, fault) for field in fields if (fault := _fault(field, row[field])) is not None]
            for field, fault in found:
                yield f"{name}, {', '.join(f'{key}={row[key]!r}' for key in keys)}: field {field!r}: {fault}"
            if found and delete:
                which = " AND ".join(f"{key} = ?" for key in keys)
                store.run(f"DELETE FROM {name} WHERE {which}", [tuple(row[key] for key in keys)])  # noqa: S608
                if name == "traces":
                    store.run("DELETE FROM feedback WHERE trace = ?", [(row["id"],)])


def _fault(field: str, text: Any) -> str | None:
    if text is None and field in ("inputs", "outputs"):
        return None
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        return f"is no JSON ({error})"
    if field in ("output", "signals", "inputs", "outputs", "labels"):
        return None if isinstance(value, dict) else "is no object"
    if field == "asked":
        fits = isinstance(value, list) and all(
            isinstance(each, list) and [type(part) for part in each] in ([str, int, int], [str, int, int, float])
            for each in value
        )
        return None if fits else "is no list of key, input tokens and output tokens"
    texts = isinstance(value, list) and all(each is None or isinstance(each, str | dict) for each in value)
    return None if texts or _is_response(value) else "is no answer of an LM"


def _is_response(value: Any) -> bool:
    kinds = {"text": str, "model": str, "usage": list, "logprobs": list}
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())


def _rows(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """Gives the rows of a table in the order of their keys; no more than a batch is held."""
    table = schema.metadata.tables[name]
    keys, last = list(table.primary_key), None
    while True:
        query = sa.select(table).order_by(*keys).limit(_BATCH)
        if last is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(*last))
        found = store.read(query)
        yield from (dict(row._mapping) for row in found)
        if len(found) < _BATCH:
            return
        last = [getattr(found[-1], key.name) for key in keys]


def export_table(store: Store, name: TableName, path: str | os.PathLike[str]) -> int:
    """Writes a table as a Parquet file, which is replaced as a whole or not at all; gives the number of rows.

    Raises:
        StoreError: pyarrow is missing, or the file cannot be written.
    """
    pyarrow, parquet = _arrow()
    target = Path(path)
    kinds = {sa.String: pyarrow.string(), sa.Text: pyarrow.string(), sa.Integer: pyarrow.int64()}
    columns = [(column.name, kinds.get(type(column.type), pyarrow.float64())) for column in _TABLES[name].columns]
    form = pyarrow.schema(columns, metadata={_NAME: name.encode()})
    batch, count = list[dict[str, Any]](), 0
    try:
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
        os.close(handle)
        try:
            with parquet.ParquetWriter(draft, form, compression="zstd") as writer:
                for row in _rows(store, name):
                    batch.append(row)
                    if len(batch) == _BATCH:
                        writer.write_table(pyarrow.Table.from_pylist(batch, schema=form))
                        count, batch = count + len(batch), []
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=form))
            Path(draft).replace(target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror or error})") from error
    return count + len(batch)


def import_table(store: Store, path: str | os.PathLike[str]) -> tuple[TableName, int]:
    """Reads what `export_table` wrote; what the store knows already stays. Gives the table and the number of new rows.

    Raises:
        DataError: The file is none that `export_table` wrote, or a row is damaged; rows before it are in the store.
        StoreError: pyarrow is missing, or the store cannot be written.
    """
    pyarrow, parquet = _arrow()
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot be read as Parquet ({str(error).splitlines()[0]})", file=str(path)) from error
    with file:
        told = (file.schema_arrow.metadata or {}).get(_NAME, b"").decode("utf-8", "replace")
        name: TableName = "cells" if told == "cells" else "answers"
        columns = [column.name for column in _TABLES[name].columns]
        if told not in _TABLES or file.schema_arrow.names != columns:
            raise DataError("is no table that `progspace store export` wrote", file=str(path))
        statement = (
            f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
            "ON CONFLICT DO NOTHING"
        )
        before, number = store.count(name), 0
        for batch in file.iter_batches(_BATCH):
            rows = batch.to_pylist()
            for place, row in enumerate(rows, number + 1):
                _check_row(name, row, place, str(path))
            number += len(rows)
            store.run(statement, [tuple(row[column] for column in columns) for row in rows])
        return name, store.count(name) - before


def _check_row(name: str, row: dict[str, Any], number: int, file: str) -> None:
    for column in _TABLES[name].columns:
        value = row[column.name]
        if value is None and not column.nullable:
            raise DataError("is missing", file=file, row=number, field=column.name)
        if value is not None and not isinstance(value, column.type.python_type):
            raise DataError(f"is {value!r}", file=file, row=number, field=column.name)
    for field in _JSON[name]:
        if (fault := _fault(field, row[field])) is not None:
            raise DataError(fault, file=file, row=number, field=field)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StoreError("Parquet needs pyarrow: pip install 'progspace[dataframes]'") from None
    return pyarrow, pyarrow.parquet
