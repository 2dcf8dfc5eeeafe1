"""Regression suites: rows that went wrong once, each with why it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy

from ..errors import DataError
from ..lms.files import replace_text
from ..programs.examples import inputs_hash, plain_values
from ..programs.task import Task

__all__ = ["WHY", "grow_suite"]

WHY = "edge_case"
"""The field of a row that tells why it is there."""


def grow_suite(
    path: str | Path, task: Task, rows: Sequence[tuple[dspy.Example, Mapping[str, Any]]], *, name: str | None = None
) -> int:
    """Adds rows to a suite, a JSON Lines file that ``progspace compare --data`` reads; gives how many are new.

    A row is the example's fields and, in ``edge_case``, the suite's name and why the row is there. Rows whose inputs
    are in it stay as they are. The file is written whole or not at all.

    Args:
        path: The file; made where there is none.
        task: Reads it.
        rows: Examples, each with what is to be told of it.
        name: Of the suite; by default the file's.

    Raises:
        DataError: The file is no such suite or cannot be written, or an example has a field ``edge_case`` of its own.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise DataError("a suite is a .jsonl file", file=str(path))
    known = task.read(path) if path.exists() else []
    seen = {inputs_hash(example) for example in known}
    lines = [json.dumps(plain_values(each.toDict()), ensure_ascii=False) for each in known]
    before = len(lines)
    for example, why in rows:
        if isinstance(own := example.get(WHY), Mapping) and "suite" in own:
            continue  # it came from a suite
        if own is not None:
            raise DataError("the examples have it, and a suite tells in it why a row is there", field=WHY)
        if (key := inputs_hash(example)) not in seen:
            seen.add(key)
            told = {**plain_values(example.toDict()), WHY: {"suite": name or path.stem, **why}}
            lines.append(json.dumps(told, ensure_ascii=False))
    if len(lines) > before:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, "".join(f"{line}\n" for line in lines))
        except (OSError, UnicodeEncodeError) as error:
            raise DataError(f"cannot be written ({error})", file=str(path)) from error
    return len(lines) - before
