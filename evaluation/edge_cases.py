"""``ps.edge_cases``: examples on which good programs fail or disagree, read from the matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from ..errors import DataError
from ..lms.budget import Budget, Meter
from ..lms.models import DEFAULT_EMBEDDER, EMBEDDERS, installed
from ..programs.examples import example_hash
from ..programs.metrics import metric_identity
from ..programs.program import Program
from ..programs.task import Task
from ..retrievers.embedders import Embedder, find_embedder
from ..store.database import Store, open_store
from ..store.records import Cell
from .evaluation import evaluate_cells
from .matrix import Matrix
from .neighbours import clusters, distinctive_words, strangeness
from .scoring import DEFAULT_STORE, check_alpha, examples_of
from .slices import FEWEST, Slice, find_slices
from .slicing import SliceBy, class_fields, input_text, slice_values
from .statistics import paired_test
from .suite import grow_suite

__all__ = ["Cluster", "EdgeCase", "EdgeCases", "edge_cases"]

_RIGHT = 0.5
_UNSURE = 0.2  # between the probabilities of the best two choices
_FAR = 0.05
_PROGRAMS = 20
_NOT_WORSE = 0.05


@dataclass(frozen=True, slots=True)
class EdgeCase:
    """An example that deserves a look.

    Attributes:
        example: Its identity.
        why: ``failed``, ``all failed``, ``disagree``, ``unsure``, ``far``.
        inputs: What went in.
        expected: Its labels.
        output: What the program gave.
        score: The program's.
        right: Of the good programs that ran on it, the share that is right (scores half a point or more).
        said: The program's error, or what the metric said.
        cluster: Of its input; None where nothing was embedded.
    """

    example: str
    why: tuple[str, ...]
    inputs: dict[str, Any]
    expected: dict[str, Any]
    output: dict[str, Any]
    score: float
    right: float
    said: str | None
    cluster: str | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Inputs that are near each other, edge cases and others.

    Attributes:
        name: By the words that tell it from the rest.
        n: How many inputs.
        cases: How many of them are edge cases.
        classes: Labels of its edge cases that are a choice, the commonest first.
    """

    name: str
    n: int
    cases: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgeCases:
    """What the matrix tells of examples that programs have trouble with.

    Attributes:
        program: Which program was looked at.
        rows: Examples that it has a score on.
        programs: How many were compared: it, and the good ones, which are not shown to be worse than the best.
        score: Its mean.
        cases: Those with most against them first.
        slices: All that were looked at; those with ``weak`` are shown to be worse than the rest.
        clusters: Of the inputs, those with most edge cases first.
        notes: What was not looked at, and why.
        examples: The examples of the cases, for a suite.
    """

    program: str
    rows: int
    programs: int
    score: float
    cases: tuple[EdgeCase, ...]
    slices: tuple[Slice, ...]
    clusters: tuple[Cluster, ...]
    notes: tuple[str, ...]
    examples: Mapping[str, dspy.Example]

    def suite(self, path: str | Path, task: Task, *, name: str | None = None) -> int:
        """Adds the cases to a regression suite, as `progspace.evaluation.suite.grow_suite`; gives how many are new."""
        rows = [(self.examples[case.example], {"why": list(case.why)}) for case in self.cases]
        return grow_suite(path, task, rows, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {
            "program": self.program,
            "rows": self.rows,
            "programs": self.programs,
            "score": self.score,
            "cases": [asdict(case) for case in self.cases],
            "slices": [{**asdict(each), "difference": each.difference} for each in self.slices],
            "clusters": [asdict(each) for each in self.clusters],
            "notes": list(self.notes),
        }


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
    name: str = "program",
) -> EdgeCases:
    """Finds examples on which good programs fail or disagree, and slices on which a program does worse.

    It is a read of the matrix: of all that any search or evaluation has stored of these examples. An example is told of
    where the program scores under a half (*failed*), where all good programs do (*all failed*: look at the label),
    where some do and others do not (*disagree*), where the best two choices of a scored format are less than 0.2 apart
    in probability (*unsure*), and where it is farther from train than 95 % of train are from each other (*far*; about
    5 % of examples that are like train are).

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
        name: Of the program, in what is printed.

    Raises:
        DataError: The store knows too little of these examples and no program was given; or the data are not as they
            must be.
        LMError: The LM answered the program on no example.
        ProgramError: The program fails on every example.
    """
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return edge_cases(
                task, program, lm=lm, split=split, data=data, by=by, embedder=embedder, alpha=alpha, store=opened,
                budget=budget, workers=workers, seed=seed, name=name,
            )  # fmt: skip
    check_alpha(alpha)
    examples = list(examples_of(task, split, data))
    hashes = [example_hash(example) for example in examples]
    known: dict[str, Mapping[str, Cell]] = {**store.all_cells(metric_identity(task.metric), hashes)}
    own: str | None = None
    if program is not None:
        if lm is None:
            raise DataError("to run a program takes an LM: edge_cases(task, program, lm=…)")
        cells = Matrix(store, task.metric, lm, Meter(budget), workers=workers).fill(program, examples)
        evaluate_cells(cells, examples, name=name)  # one that does not run at all is told
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
        task, scored, known[own], compared, program, by=by, embedder=embedder, alpha=alpha, seed=seed, name=name
    )


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
    by: Sequence[str] | Mapping[str, SliceBy],
    embedder: Embedder | str | None,
    alpha: float,
    seed: int,
    name: str,
) -> EdgeCases:
    cells = [own[example_hash(example)] for example in examples]
    scores = [cell.score or 0.0 for cell in cells]
    groups = slice_values(examples, task.program, by if isinstance(by, Mapping) else {field: field for field in by})
    far, near, notes = _placed(task, examples, embedder, seed)
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
            "far": far is not None and far[row] <= _FAR,
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
    cases.sort(key=lambda case: (-len(case.why), case.right, case.score, case.example))
    return EdgeCases(
        program=name,
        rows=len(examples),
        programs=len(good),
        score=sum(scores) / len(scores),
        cases=tuple(cases),
        slices=find_slices(scores, groups, alpha=alpha, seed=seed),
        clusters=() if near is None else _clusters(near, cases, class_fields(task.program)),
        notes=tuple(notes),
        examples={cell.example: example for cell, example in zip(cells, examples, strict=True)},
    )


def _placed(
    task: Task, examples: Sequence[dspy.Example], embedder: Embedder | str | None, seed: int
) -> tuple[Sequence[float] | None, list[str] | None, list[str]]:
    """How strange each input is to train, and the name of its cluster."""
    if isinstance(embedder, str):
        if embedder in EMBEDDERS and not installed(embedder):
            told = f"What is far from train, and clusters, want an embedder: progspace models install {embedder}."
            return None, None, [told]
        embedder = find_embedder(embedder)
    if embedder is None:
        return None, None, ["Nothing was embedded: nothing is told to be far from train, and there are no clusters."]
    texts = [input_text(example) for example in examples]
    train = [text for text in dict.fromkeys(map(input_text, task.train)) if text not in set(texts)]
    vectors = embedder.embed([*texts, *train])
    labels = clusters(vectors[: len(texts)], seed=seed)
    names: dict[int, str] = {}
    for label in np.unique(labels).tolist():
        inside = [text for text, own in zip(texts, labels, strict=True) if own == label]
        words = distinctive_words(inside, [text for text, own in zip(texts, labels, strict=True) if own != label])
        told = ", ".join(words)
        names[label] = told if told and told not in names.values() else f"{told or 'no word in common'} ({label + 1})"
    far = None
    notes = []
    if len(train) * _FAR >= 1:
        far = strangeness(vectors[: len(texts)], vectors[len(texts) :]).tolist()
    else:
        notes.append("What is far from train cannot be told: of train, 20 inputs besides these are wanted.")
    return far, [names[int(label)] for label in labels], notes


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


def _clusters(names: Sequence[str], cases: Sequence[EdgeCase], classes: Sequence[str]) -> tuple[Cluster, ...]:
    sizes = Counter(names)
    found = []
    for name, size in sizes.items():
        inside = [case for case in cases if case.cluster == name]
        labels = Counter(str(case.expected[field]) for case in inside for field in classes if field in case.expected)
        found.append(Cluster(name, size, len(inside), tuple(label for label, _ in labels.most_common())))
    return tuple(sorted(found, key=lambda each: (-each.cases / each.n, each.name)))
