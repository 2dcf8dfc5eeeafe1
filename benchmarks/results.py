"""Benchmark results: JSON Lines, one line a run, in ``benchmarks/results``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["append_results", "read_results", "write_results"]

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
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
