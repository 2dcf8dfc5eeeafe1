"""Edge cases of a running program, read from its traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dspy

from ..errors import DataError
from ..programs.examples import inputs_hash
from ..programs.task import Task
from ..retrievers.embedders import Embedder
from ..store.traces import Trace
from .edge_findings import EdgeCase, EdgeCases, clusters_of
from .labelled import label_fields, labelled
from .neighbours import FAR, placed
from .slices import FEWEST, find_slices
from .slicing import SliceBy, class_fields, slice_values

__all__ = ["edge_cases_of_traces"]

_WRONG = 0.5
_UNSURE = 0.6  # of two choices, as far apart as 0.2, as in the matrix


def edge_cases_of_traces(
    task: Task,
    traces: Sequence[Trace],
    *,
    by: Mapping[str, SliceBy],
    embedder: Embedder | str | None,
    alpha: float,
    seed: int,
    name: str,
) -> EdgeCases:
    """Finds calls that deserve a look, and what they have in common; `progspace.edge_cases` says which.

    Args:
        task: Says what inputs and labels are, and what is far from train.
        traces: Of the program, the oldest first.
        by: As in `progspace.edge_cases`; fields are those of inputs.
        embedder: As there.
        alpha: As there.
        seed: As there.
        name: Of the program, in what is printed.

    Raises:
        DataError: There are no traces, or a field to slice by is not as it must be.
    """
    if not traces:
        raise DataError(f"there is no trace of {name!r}: `progspace traces` lists what there is")
    asked = {
        trace.id: dspy.Example({field: trace.inputs[field] for field in task.inputs}).with_inputs(*task.inputs)
        for trace in traces
        if trace.inputs is not None and all(trace.inputs.get(field) is not None for field in task.inputs)
    }
    examples, place = list(asked.values()), {trace: row for row, trace in enumerate(asked)}
    far, near, notes = placed(examples, task.train, embedder, seed) if examples else (None, None, [])
    wanted, labels = _labels(task, traces)
    cases: dict[str, EdgeCase] = {}
    whole: set[str] = set()
    troubled = dict.fromkeys((trace.id for trace in traces), False)
    for trace in reversed(traces):
        row = place.get(trace.id)
        told = _told(trace)
        troubled[trace.id] = any(told.values())
        told["far"] = far is not None and row is not None and far[row] <= FAR
        why = tuple(reason for reason, holds in told.items() if holds)
        key = trace.id if row is None else inputs_hash(examples[row])
        # Of calls with the same inputs the one with the most against it stands for all; of these, the latest.
        if why and (key not in cases or len(why) > len(cases[key].why)):
            if trace.whole and row is not None:
                whole.add(key)
            cases[key] = EdgeCase(
                example=trace.id,
                why=why,
                inputs=dict(trace.inputs or {}),
                expected=dict(labels[key].labels().toDict() if key in labels else trace.labels),
                output=dict(trace.outputs or {}),
                score=trace.score,
                right=None,
                said=trace.error,
                cluster=None if near is None or row is None else near[row],
            )
    found = sorted(cases.values(), key=lambda case: (-len(case.why), case.why == ("far",)))
    groups = slice_values(examples, task.program, by) if examples else {}
    if near is not None:
        groups["cluster"] = list(near)
    return EdgeCases(
        program=name,
        rows=len(traces),
        programs=0,
        score=1 - sum(troubled.values()) / len(traces),
        cases=tuple(found),
        slices=find_slices([float(not troubled[trace]) for trace in asked], groups, alpha=alpha, seed=seed),
        clusters=() if near is None else clusters_of(near, found, class_fields(task.program)),
        notes=(*notes, *_notes(traces, len(asked))),
        examples={case.example: labels[key] for key, case in cases.items() if key in labels},
        unlabelled={
            case.example: examples[place[case.example]]
            for key, case in cases.items()
            if key in whole and key not in labels
        },
        wanted=wanted,
    )


def _labels(task: Task, traces: Sequence[Trace]) -> tuple[tuple[str, ...], dict[str, dspy.Example]]:
    """The labels that a row must have, and rows that have them, by their inputs."""
    try:
        return label_fields(task), {inputs_hash(row): row for row in labelled(task, traces).rows.values()}
    except DataError:  # nothing is labelled in this task
        return (), {}


def _told(trace: Trace) -> dict[str, bool]:
    """What its own records have against a call."""
    return {
        "failed": trace.error is not None,
        "judged wrong": trace.score is not None and trace.score < _WRONG,
        "unreadable": trace.unreadable > 0,
        "retried": trace.retries + trace.fallbacks > 0,
        "abstained": trace.abstained,
        "unsure": trace.confidence is not None and trace.confidence < _UNSURE,
    }


def _notes(traces: Sequence[Trace], asked: int) -> list[str]:
    notes = []
    if asked < len(traces):
        notes.append(
            f"{len(traces) - asked} of {len(traces)} traces do not hold the task's inputs: they are in no cluster or "
            "slice, and make no rows. ps.watch(…, content=True) keeps them."
        )
    if gone := sum(trace.inputs is not None and not trace.whole for trace in traces):
        notes.append(f"Content that was redacted or cut makes no rows: traces with such, {gone}.")
    if all(trace.score is None for trace in traces):
        notes.append("Nothing was said of any call, so none is judged wrong: progspace feedback.")
    if all(trace.confidence is None for trace in traces):
        notes.append("How sure the LM was is not known: only scored formats tell.")
    if asked < 2 * FEWEST:
        notes.append(f"Slices want {2 * FEWEST} calls or more whose inputs are known; there are {asked}.")
    return notes
