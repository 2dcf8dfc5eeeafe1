"""Runs as a suite wrote them, checked: what a file of results must hold for a view to show it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import DataError

__all__ = ["Run", "about", "fits", "heading", "parsed"]


class Run(BaseModel):
    """A line of results; what a view has no use for is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


AnyRun = TypeVar("AnyRun", bound=Run)


def fits(kind: type[Run], lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are lines, and each has what a kind of run must have."""
    wanted = {name for name, field in kind.model_fields.items() if field.is_required()}
    return bool(lines) and all(wanted <= line.keys() for line in lines)


def parsed(kind: type[AnyRun], lines: Iterable[Mapping[str, Any]], file: str) -> list[AnyRun]:
    """Checks lines.

    Raises:
        DataError: A line is not of that kind.
    """
    runs = []
    for number, line in enumerate(lines, 1):
        try:
            runs.append(kind.model_validate(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(first["msg"], file=file, row=number, field=where) from error
    return runs


def heading(name: str, file: str, lines: Sequence[Any], like: str = "") -> dict[str, Any]:
    """What a `progspace.benchmarks.shown.content.Suite` tells of a file; ``like``: whose description serves, too."""
    return {"name": name, "file": file, "about": about(name) or about(like), "runs": len(lines)}


def about(suite: str) -> str:
    """What a suite's own script says of it, in the first sentence; nothing where there is no such script."""
    script = Path(__file__).parent.parent / f"{suite}.py"
    if not suite.isidentifier() or not script.exists():
        return ""
    told = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(told.split("\n\n")[0].replace("``", "").split())
