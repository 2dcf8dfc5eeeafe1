"""Benchmark results: JSON Lines, one line a run, in ``benchmarks/results``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError

__all__ = ["RESULTS", "append_results", "read_results", "read_runs", "write_results"]

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, runs: Iterable[Mapping[str, Any]], folder: Path = RESULTS) -> Path:
    """Writes the runs of a benchmark, in place of those of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(run, ensure_ascii=False) + "\n" for run in runs), encoding="utf-8")
    return path


def append_results(path: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Adds runs to those that a file of results has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(run, ensure_ascii=False) + "\n" for run in runs)


def read_results(name: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Reads the runs of a benchmark."""
    return read_runs(folder / f"{name}.jsonl")


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Reads the runs that a file of results holds.

    Raises:
        DataError: It cannot be read, or a line of it is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not `splitlines`: texts hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", file=str(path)) from error
    runs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            run = json.loads(line, parse_constant=_refused)
        except ValueError as error:
            raise DataError(f"is no JSON ({error})", file=str(path), row=number) from error
        if not isinstance(run, dict):
            raise DataError("is no JSON object; results are one a line", file=str(path), row=number)
        runs.append(run)
    return runs


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is none of its numbers")
