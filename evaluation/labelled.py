"""Labelled rows from traces: what a watched program was asked, with what was said of its answers later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError

from ..errors import DataError
from ..programs.examples import inputs_hash
from ..programs.fields import choices_of
from ..programs.task import Task
from ..store.traces import Trace

__all__ = ["Labelled", "label_fields", "labelled"]

_PROVEN = (int, float)  # types that have one right value, as choices have


@dataclass(frozen=True, slots=True)
class Labelled:
    """What traces gave.

    Attributes:
        rows: By the trace's id, the oldest first; no two have the same inputs.
        left_out: How many other traces there were, by why they gave no row.
    """

    rows: Mapping[str, dspy.Example]
    left_out: Mapping[str, int]

    @property
    def line(self) -> str:
        """Both in a sentence."""
        gone = ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items(), key=lambda each: -each[1]))
        told = f"{len(self.rows)} of {len(self.rows) + sum(self.left_out.values())} traces gave a row"
        return f"{told}; left out: {gone}." if gone else f"{told}."

    def without(self, known: Set[str]) -> Labelled:
        """Leaves out rows whose inputs (by their hash) are known."""
        rows = {trace: row for trace, row in self.rows.items() if inputs_hash(row) not in known}
        gone = len(self.rows) - len(rows)
        return Labelled(rows, {**self.left_out, **({"that the task has": gone} if gone else {})})

    def to_dict(self) -> dict[str, Any]:
        """Gives how many there are of each, as JSON values."""
        return {"rows": len(self.rows), "left_out": dict(self.left_out)}


def labelled(task: Task, traces: Sequence[Trace]) -> Labelled:
    """Makes rows of a task from the traces that tell what a right answer is.

    A label told by feedback is one. A score alone is one only where it cannot mean anything else:

    - Full marks: the output was right, so it is the label, if it is the one right value there is: a choice of its type,
      a number, or a value that labels of the task's examples have. A free text with full marks is one right answer
      among many; as a label it would mark down the others.
    - Nought, where the label is a choice of two: the other one.

    Other scores name no label. Where several labels are wanted, all of them must be told; a score says nothing of those
    that are missing, since with labels it speaks of those. Content that was redacted or cut is not what the program
    read, and is left out, as are traces whose labels contradict each other.

    Args:
        task: Gives the inputs, and what a row must have: the field of the metric, or else outputs that all of the
            task's examples have as labels.
        traces: The oldest first.

    Raises:
        DataError: The task's examples have no label in common.
    """
    wanted, left_out = label_fields(task), Counter[str]()
    closed = {field: {str(each.get(field)) for each in (*task.train, *task.dev)} for field in wanted}
    rows: dict[str, dict[str, dspy.Example]] = {}
    for trace in traces:
        row = _row(task, trace, wanted, closed)
        if isinstance(row, str):
            left_out[row] += 1
        else:
            rows.setdefault(inputs_hash(row), {})[trace.id] = row
    kept: dict[str, dspy.Example] = {}
    for same in rows.values():
        if len({str([row[field] for field in wanted]) for row in same.values()}) > 1:
            left_out["contradicted by another"] += len(same)
        else:
            name, row = next(iter(same.items()))
            kept[name] = row
            if len(same) > 1:
                left_out["the same as another"] += len(same) - 1
    return Labelled(kept, dict(left_out))


def label_fields(task: Task) -> tuple[str, ...]:
    """Gives the labels that a row of the task must have.

    Raises:
        DataError: The task's examples have none in common.
    """
    known = [set(example.labels().keys()) for example in (*task.train, *task.dev)]
    common = set.intersection(*known)
    if (field := getattr(task.metric, "field", None)) in common:
        return (str(field),)
    if not common:
        raise DataError("the task's examples have no label that all of them have: nothing can be read from traces")
    return tuple(sorted(common & set(task.outputs) or common))


def _row(task: Task, trace: Trace, wanted: Sequence[str], closed: Mapping[str, set[str]]) -> dspy.Example | str:
    """Gives a row, or why there is none."""
    if trace.score is None and not trace.labels:
        return "without feedback"
    if trace.inputs is None:
        return "without content"
    if not trace.whole:
        return "redacted or cut"
    told = trace.labels or trace.outputs or {}
    if any(told.get(field) is None for field in wanted):
        return "without all of the labels" if trace.labels else "with a score that names no label"
    values = {name: value for name, value in trace.inputs.items() if name in task.inputs}
    kinds = {field: task.outputs.get(field) for field in wanted}
    try:
        (row,) = task.read([{**values, **{field: _typed(told[field], kinds[field]) for field in wanted}}])
    except (DataError, ValueError):
        return "with values that the task does not have"
    if trace.labels:
        return row
    if trace.score == 1 and all(
        choices_of(kind) or kind in _PROVEN or str(row[field]) in closed[field] for field, kind in kinds.items()
    ):
        return row
    choices = list(choices_of(kinds[wanted[0]]).values())
    if trace.score == 0 and len(wanted) == 1 and len(choices) == 2:
        row[wanted[0]] = choices[row[wanted[0]] == choices[0]]
        return row
    return "with a score that names no label"


def _typed(value: Any, kind: Any) -> Any:
    """Gives a label in its field's type where it was told as text, as the command line tells lists and objects.

    Raises:
        ValidationError: The text is no value of the type.
    """
    if not isinstance(value, str) or kind is None or kind in (str, *_PROVEN) or choices_of(kind):
        return value  # `Task.read` reads choices and numbers
    adapter = TypeAdapter[Any](kind)
    try:
        adapter.validate_python(value)
    except ValidationError:
        adapter.validate_json(value)
        return json.loads(value)  # as in a row of a file
    return value
