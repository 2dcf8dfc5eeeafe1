"""Documents in rows: JSONL, CSV, and what is in memory already."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .documents import Document, check_text, folded, groups_of, time_of

__all__ = ["read_rows", "row_document"]

_USED = ("text", "title", "source", "time", "groups", "id")


def read_rows(path: Path, source: str, groups: tuple[str, ...] | None = None) -> Iterator[Document | DataError]:
    """Reads a JSONL or CSV file row by row, so that its size does not matter; a row is a document.

    Of a row ``text`` is needed; ``title``, ``source``, ``time``, ``groups`` (in CSV parted by commas) and ``id`` are
    used where they are there, in small letters or capitals; other columns are left out. A row without a source is
    called ``FILE#ID``, or ``FILE#ROW``.

    Args:
        path: The file.
        source: What it is called.
        groups: Who may read a row that does not say so itself.

    Yields:
        A document, or what is wrong with the row: the rows after it are read all the same.

    Raises:
        DataError: The file cannot be read on.
    """
    modified = time_of(datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc))
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    for number, row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        try:
            document = row_document(row, str(path), number, source, groups, modified)
            yield document if document.source.startswith(f"{source}#") else dataclasses.replace(document, file=source)
        except DataError as error:
            yield error


def row_document(
    row: Mapping[str, Any],
    name: str,
    number: int,
    source: str,
    groups: tuple[str, ...] | None = None,
    time: str | None = None,
) -> Document:
    """Makes a document of a row.

    Args:
        row: Its columns by their names, which may be in capitals.
        name: Of its file, for messages.
        number: Which row it is, from 1.
        source: What its file is called.
        groups: Who may read it, where it does not say so.
        time: When it was written, where it does not say so.

    Raises:
        DataError: With file, row and field.
    """
    fields = folded(row, _USED, file=name, row=number)
    told = {field: value for field, value in fields.items() if value is not None and value != ""}
    if "text" not in fields:
        near = difflib.get_close_matches("text", map(str, row), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, row)) or 'none'}"
        raise DataError(f"the text is missing; {hint}", file=name, row=number, field="text")
    for field in ("text", "title", "source"):
        value = told.get(field, "")
        if not isinstance(value, str):
            raise DataError(f"a text is wanted, not {_short(value)}", file=name, row=number, field=field)
        check_text(value, field, file=name, row=number)
    identity = told.get("id", number)
    if not isinstance(identity, str | int):
        raise DataError(f"a text or a number is wanted, not {_short(identity)}", file=name, row=number, field="id")
    check_text(str(identity), "id", file=name, row=number)
    return Document(
        told.get("source", f"{source}#{identity}"),
        told.get("text", "").replace("\r\n", "\n"),
        " ".join(told.get("title", "").split()),
        time_of(told["time"], file=name, row=number) if "time" in told else time,
        groups_of(told["groups"], file=name, row=number) if "groups" in told else groups,
        stated_time="time" in told,
    )


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 40 else f"{told[:40]}…"


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except (ValueError, RecursionError) as error:
                row = DataError(f"not JSON in UTF-8 ({error})", file=str(path), row=number)
            if not isinstance(row, Mapping | DataError):
                row = DataError("not a JSON object with a value for each field", file=str(path), row=number)
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        # Of the process: it is only ever raised. The file's size is more than any value in it has characters.
        csv.field_size_limit(max(csv.field_size_limit(), path.stat().st_size))
        reader = csv.DictReader(_decoded(lines, path), strict=True)
        try:
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            if twice := next((field for field in _USED if names.count(field) > 1), None):
                raise DataError("two columns have this name; keep one", file=str(path), row=1, field=twice)
            for number, row in enumerate(reader, 2):  # the header is row 1
                if None in row:
                    yield number, DataError("more values than the header has names", file=str(path), row=number)
                else:
                    yield number, row
        except csv.Error as error:
            raise DataError(f"cannot be read on ({error})", file=str(path), row=reader.line_num) from error


def _decoded(lines: Iterable[str], path: Path) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text; save it as UTF-8", file=str(path)) from error
