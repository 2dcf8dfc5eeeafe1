"""``ps.edge_cases``: examples on which good programs fail or disagree, read from the matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy

from ..errors import DataError
from ..lms.budget import Budget, Meter
from ..lms.models import DEFAULT_EMBEDDER
from ..programs.examples import example_hash
from ..programs.program import Program
from ..programs.task import Task
from ..retrievers.embedders import Embedder
from ..store.database import Store, open_store
from ..store.records import Cell
from ..store.traces import Trace, read_traces
from .checks import check_alpha, check_at_least
from .edge_findings import EdgeCase, EdgeCases, clusters_of
from .edge_traces import edge_cases_of_traces
from .evaluation import check_cells
from .matrix import Matrix
from .neighbours import FAR, placed
from .scoring import DEFAULT_STORE, examples_of
from .slices import FEWEST, find_slices
from .slicing import SliceBy, class_fields, slice_values
from .statistics import paired_test

__all__ = ["edge_cases"]

_RIGHT = 0.5
_UNSURE = 0.2  # between the probabilities of the best two choices
_PROGRAMS = 20
_NOT_WORSE = 0.05


def edge_cases(
    task: Task,
    program: dspy.Module | None = None,
    *,
    lm: dspy.BaseLM | None = None,
    split: str = "dev",
    data: Any = None,
    by: Sequence[str] | Mapping[str, SliceBy] = (),
    embedder: Embedder | str | None = DEFAULT_EMBEDDER,
    alpha: float = 0.05,
    store: str | Path | Store = DEFAULT_STORE,
    budget: Budget | None = None,
    workers: int | None = None,
    seed: int = 0,
    name: str | None = None,
    traces: str | Path | Store | None = None,
    version: str | None = None,
    last: int = 1_000,
) -> EdgeCases:
    """Finds examples on which good programs fail or disagree, and slices on which a program does worse.

    It is a read of the matrix: of all that any search or evaluation has stored of these examples. An example is told of
    where the program scores under a half (*failed*), where all good programs do (*all failed*: look at the label),
    where some do and others do not (*disagree*), where the best two choices of a scored format are less than 0.2 apart
    in probability (*unsure*), and where it is farther from train than 95 % of train are from each other (*far*; about
    5 % of examples that are like train are).

    With ``traces`` it reads calls of a running program in place of the matrix, and no LM is called. A call is told of
    where it raised (*failed*), feedback scores it under a half (*judged wrong*), an answer could not be read
    (*unreadable*), it was tried again or fell back (*retried*), it *abstained*, the choice that was taken has a
    probability under 0.6 (*unsure*), or its input is *far*. Slices and clusters are then those of calls with such
    trouble, being far left aside. Cases that feedback labels make a suite, by the rules of
    `progspace.evaluation.labelled.labelled`; the others, `EdgeCases.to_label`.

    Slices are by length, script, class, cluster of the inputs, and by what is asked for; that many were looked at is
    accounted for: see `progspace.evaluation.slices.find_slices`.

    Args:
        task: Gives the examples and the metric.
        program: The program to look at, run where its cells are not known; None for the best that the store knows, and
            no call at all.
        lm: Answers for the program.
        split: ``dev``, ``train`` or ``test``.
        data: Examples in place of a split.
        by: Further fields to slice by; or names, each with a field or a function that gives an example's value (a
            language, say, by a detector of yours).
        embedder: Tells which inputs are near each other: an embedder or its name, as
            `progspace.retrievers.embedders.find_embedder` has it; None to leave that out. An embedded one that is not
            installed is left out, and told.
        alpha: How often slices are told of that are none.
        store: A file, or an open store.
        budget: What the program's run may spend.
        workers: Examples that run at a time.
        seed: Of clusters and permutations.
        name: Of the program, in what is printed; with traces, the name that they stand under, by default the task's.
        traces: The store whose traces are read; None for the matrix.
        version: Only traces of this version, whatever their name: an artifact's hash, or what the app called it.
        last: Traces that are read, the latest.

    Raises:
        DataError: There are no such traces. The store knows too little of these examples and no program was given. The
            data are not as they must be. The seed is below 0.
        LMError: The LM answered the program on no example.
        ProgramError: The program fails on every example.
    """
    check_alpha(alpha)
    check_at_least(0, seed=seed)
    fields: Mapping[str, SliceBy] = by if isinstance(by, Mapping) else {field: field for field in by}
    if traces is not None:
        if data is not None or program is not None:
            raise DataError("traces tell of calls that were made: give them neither data nor a program to run")
        name = name or task.name
        told = _traces(traces, name, version, last)
        return edge_cases_of_traces(task, told, by=fields, embedder=embedder, alpha=alpha, seed=seed, name=name)
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return edge_cases(
                task, program, lm=lm, split=split, data=data, by=fields, embedder=embedder, alpha=alpha, store=opened,
                budget=budget, workers=workers, seed=seed, name=name,
            )  # fmt: skip
    name = name or "program"
    examples = list(examples_of(task, split, data))
    hashes = [example_hash(example) for example in examples]
    known: dict[str, Mapping[str, Cell]] = {**store.all_cells(task.metric_identity, hashes)}
    own: str | None = None
    if program is not None:
        if lm is None:
            raise DataError("to run a program takes an LM: edge_cases(task, program, lm=…)")
        cells = Matrix.of(task, store, lm, Meter(budget), workers=workers).fill(program, examples)
        check_cells(cells, name)
        own = cells[0].program
        known[own] = {cell.example: cell for cell in cells if cell.score is not None}
    good = _good(known, len(set(hashes)))
    if own is None and not good:
        raise DataError(
            f"the store knows no program on half of these {len(examples)} examples: give a program to run, or the "
            "store of a compile"
        )
    if own is None:
        own, name = good[0], "the best in the store"
    compared = [known[key] for key in dict.fromkeys([*good, own])]
    scored = [example for example, key in zip(examples, hashes, strict=True) if key in known[own]]
    return _read(
        task, scored, known[own], compared, program, by=fields, embedder=embedder, alpha=alpha, seed=seed, name=name
    )


def _traces(where: str | Path | Store, name: str, version: str | None, last: int) -> list[Trace]:
    if not isinstance(where, Store):
        with open_store(where) as opened:
            return _traces(opened, name, version, last)
    if version is None:
        return read_traces(where, name=name, last=last)
    return read_traces(where, versions=[version], last=last)


def _good(known: Mapping[str, Mapping[str, Cell]], rows: int) -> list[str]:
    """Programs with a score on half of the rows that are not shown to be worse than the best, which is first."""

    def mean(program: str) -> float:
        return sum(cell.score or 0.0 for cell in known[program].values()) / len(known[program])

    enough = [program for program, cells in known.items() if 2 * len(cells) >= max(rows, 2)]
    ranked = sorted(enough, key=lambda program: (-mean(program), program))[:_PROGRAMS]
    return [program for program in ranked if program == ranked[0] or not _worse(known[program], known[ranked[0]])]


def _worse(cells: Mapping[str, Cell], best: Mapping[str, Cell]) -> bool:
    shared = [key for key in cells if key in best]
    if not shared:
        return True
    test = paired_test(*([each[key].score or 0.0 for key in shared] for each in (cells, best)))
    return test.difference < 0 and test.p_value < _NOT_WORSE


def _read(
    task: Task,
    examples: Sequence[dspy.Example],
    own: Mapping[str, Cell],
    good: Sequence[Mapping[str, Cell]],
    program: dspy.Module | None,
    *,
    by: Mapping[str, SliceBy],
    embedder: Embedder | str | None,
    alpha: float,
    seed: int,
    name: str,
) -> EdgeCases:
    cells = [own[example_hash(example)] for example in examples]
    scores = [cell.score or 0.0 for cell in cells]
    groups = slice_values(examples, task.program, by)
    far, near, notes = placed(examples, task.train, embedder, seed)
    if near is not None:
        groups["cluster"] = list(near)
    biases = _biases(program)
    cases = []
    for row, (example, cell) in enumerate(zip(examples, cells, strict=True)):
        given = [each[cell.example].score or 0.0 for each in good if cell.example in each]
        right = [score >= _RIGHT for score in given]
        told = {
            "all failed": len(right) > 1 and not any(right),
            "failed": scores[row] < _RIGHT,
            "disagree": any(right) and not all(right),
            "unsure": (gap := _gap(cell.output, biases)) is not None and gap < _UNSURE,
            "far": far is not None and far[row] <= FAR,
        }
        if any(told.values()):
            cases.append(
                EdgeCase(
                    example=cell.example,
                    why=tuple(reason for reason, holds in told.items() if holds),
                    inputs=dict(example.inputs().toDict()),
                    expected=dict(example.labels().toDict()),
                    output={key: value for key, value in cell.output.items() if key != "choice_logprobs"},
                    score=scores[row],
                    right=sum(right) / max(1, len(right)),
                    said=cell.error or cell.feedback,
                    cluster=None if near is None else near[row],
                )
            )
    if not any("choice_logprobs" in cell.output for cell in cells):
        notes.append("How sure the LM was is not known: only scored formats tell.")
    if len(good) == 1:
        notes.append("There is one good program only: nothing to disagree with.")
    if len(examples) < 2 * FEWEST:
        notes.append(f"Slices want {2 * FEWEST} examples or more; there are {len(examples)}.")
    cases.sort(key=lambda case: (-len(case.why), case.right or 0.0, case.score or 0.0, case.example))
    return EdgeCases(
        program=name,
        rows=len(examples),
        programs=len(good),
        score=sum(scores) / len(scores),
        cases=tuple(cases),
        slices=find_slices(scores, groups, alpha=alpha, seed=seed),
        clusters=() if near is None else clusters_of(near, cases, class_fields(task.program)),
        notes=tuple(notes),
        examples={cell.example: example for cell, example in zip(cells, examples, strict=True)},
    )


def _biases(program: dspy.Module | None) -> dict[str, float]:
    manners = list(program.manners.values()) if isinstance(program, Program) else []
    return dict(manners[0].format.biases) if len(manners) == 1 and manners[0].format else {}


def _gap(output: Mapping[str, Any], biases: Mapping[str, float]) -> float | None:
    """How far the probabilities of the best two choices are apart, after what calibration takes off."""
    told = output.get("choice_logprobs")
    if not isinstance(told, Mapping) or len(told) < 2:
        return None
    values = [float(score) - biases.get(choice, 0.0) for choice, score in told.items()]
    weights = sorted((math.exp(value - max(values)) for value in values), reverse=True)
    return (weights[0] - weights[1]) / sum(weights)
