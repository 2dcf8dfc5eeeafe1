"""A ready-made task: code for a library that no LM has read of, so that it takes its documentation to write it.

The library, its documentation and the tasks were written for this by progspace's authors, and ship with it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ..retrievers.passage import Passages
from . import metrics
from .code_generation import CodeGeneration
from .task import Task

__all__ = ["LIBRARY", "documentation", "modules", "task"]

LIBRARY = "orrin"


def documentation() -> Path:
    """The folder of the library's documentation: Markdown, a page for each function and one for the whole.

    >>> len(list(documentation().glob("*.md")))
    29
    """
    return Path(str(files("progspace.programs").joinpath(f"data/{LIBRARY}")))


def modules() -> dict[str, str]:
    """The library itself, as a sandbox takes it.

    >>> list(modules())
    ['orrin']
    """
    return {LIBRARY: files("progspace.programs").joinpath(f"data/{LIBRARY}.py").read_text(encoding="utf-8")}


def task(retriever: Callable[[str], Passages] | None, *, max_tokens: int | None = None, seed: int = 0) -> Task:
    """Makes the task: 50 functions to write, each with two to four checks and a reference solution.

    Args:
        retriever: Finds in the documentation: ``ps.retrievers.ingest(documentation(), collection="orrin")``; None for
            code from what the LM knows by itself.
        max_tokens: Of the passages in a prompt.
        seed: Of the split.

    >>> task(None).inputs
    ('task',)
    """
    return Task(
        program=CodeGeneration(retriever, max_tokens=max_tokens),
        examples=str(files("progspace.programs").joinpath(f"data/{LIBRARY}.jsonl")),
        inputs=["task"],
        metric=metrics.passes_tests("code", "tests", modules=modules()),
        name="library-code" if retriever is not None else "library-code, closed book",
        seed=seed,
    )
