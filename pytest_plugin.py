"""A pytest plugin: ``assert_no_worse`` fails a test whose new program is worse than the old one.

pytest loads it wherever progspace is installed; it imports nothing heavy before a test uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import dspy

    from .evaluation.gate import Gate
    from .programs.task import Task

__all__ = ["assert_no_worse"]


@pytest.fixture
def assert_no_worse() -> Callable[..., Gate]:
    """Asserts that a new program is no worse than an old one: ``assert_no_worse(new, old, task, lm=…, margin=0.01)``.

    Programs are modules, paths of artifacts, ``"@TAG"`` of the registry, or ``"baseline"`` for the task's program as
    declared. Where the rows show nothing either way the test fails as well, unless ``cannot_tell="pass"`` or
    ``"skip"``. Other arguments are those of ``ps.gate``, which gives what this returns.
    """
    return _assert_no_worse


def _assert_no_worse(
    new: dspy.Module | str | Path,
    old: dspy.Module | str | Path,
    task: Task,
    *,
    lm: dspy.BaseLM,
    cannot_tell: str = "fail",
    **settings: Any,
) -> Gate:
    __tracebackhide__ = True
    from .errors import DataError
    from .evaluation.gate import gate

    if cannot_tell not in ("fail", "pass", "skip"):
        raise DataError(f"cannot_tell is 'fail', 'pass' or 'skip', not {cannot_tell!r}")
    names = tuple(str(each) if isinstance(each, str | Path) else said for each, said in ((new, "new"), (old, "old")))
    told = gate(_program(new, task, lm), _program(old, task, lm), task, lm=lm, **{"names": names, **settings})
    if told.verdict == "cannot tell" and cannot_tell == "skip":
        pytest.skip(" ".join(told.lines))
    if not told.passes(cannot_tell=cannot_tell == "pass"):
        pytest.fail(str(told), pytrace=False)
    return told


def _program(given: dspy.Module | str | Path, task: Task, lm: dspy.BaseLM) -> dspy.Module:
    from .artifacts.load import load
    from .artifacts.registry import artifact_path

    if given == "baseline":
        return task.program
    return load(artifact_path(given), lm=lm, program=task.program) if isinstance(given, str | Path) else given
