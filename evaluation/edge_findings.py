"""What is found of edge cases: each, the clusters of inputs, and all of it together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from ..programs.task import Task
from .shown import Shown
from .slices import Slice
from .suite import grow_suite

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Cluster", "EdgeCase", "EdgeCases", "clusters_of"]


@dataclass(frozen=True, slots=True)
class EdgeCase:
    """An example that deserves a look.

    Attributes:
        example: Its identity; of a call in an app, its trace's id.
        why: ``failed``, ``all failed``, ``disagree``, ``unsure``, ``far``; of a call, also ``judged wrong``,
            ``unreadable``, ``retried``, ``abstained``.
        inputs: What went in.
        expected: Its labels.
        output: What the program gave.
        score: The program's; of a call, what feedback says, or None.
        right: Of the good programs that ran on it, the share that is right (scores half a point or more); None for a
            call.
        said: The program's error, or what the metric said.
        cluster: Of its input; None where nothing was embedded.
    """

    example: str
    why: tuple[str, ...]
    inputs: dict[str, Any]
    expected: dict[str, Any]
    output: dict[str, Any]
    score: float | None
    right: float | None
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
class EdgeCases(Shown):
    """What the matrix tells of examples that programs have trouble with, or traces of calls.

    Attributes:
        program: Which program was looked at.
        rows: Examples that it has a score on; or its traces.
        programs: How many were compared: it, and the good ones, which are not shown to be worse than the best; none
            where these are traces.
        score: Its mean; of traces, the share that nothing speaks against, being far left aside.
        cases: Those with most against them first.
        slices: All that were looked at; those with ``weak`` are shown to be worse than the rest.
        clusters: Of the inputs, those with most edge cases first.
        notes: What was not looked at, and why.
        examples: The examples of the cases, for a suite; those of traces that have a label.
        unlabelled: The others' inputs, where traces hold them whole.
        wanted: Labels that those lack.
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
    unlabelled: Mapping[str, dspy.Example] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        from .edge_rendering import edge_cases_view  # which knows this module

        return edge_cases_view(self)

    def suite(self, path: str | Path, task: Task, *, name: str | None = None) -> int:
        """Adds the cases to a regression suite, as `progspace.evaluation.suite.grow_suite`; gives how many are new."""
        rows = [
            (self.examples[case.example], {"why": list(case.why)})
            for case in self.cases
            if case.example in self.examples
        ]
        return grow_suite(path, task, rows, name=name)

    def to_label(self, path: str | Path, task: Task) -> int:
        """Adds the cases without a label to a file of rows, for a person to label; gives how many are new.

        It is made and grows as a suite does: rows that it has stay, with the labels that they were given. In a row's
        ``edge_case`` stand the trace, what was answered, and which fields to add (``wanted``).
        """
        rows = [
            (
                self.unlabelled[case.example],
                {"why": list(case.why), "trace": case.example, "output": case.output, "wanted": list(self.wanted)},
            )
            for case in self.cases
            if case.example in self.unlabelled
        ]
        return grow_suite(path, task, rows)

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
            "labelled": sum(case.example in self.examples for case in self.cases),
            "unlabelled": len(self.unlabelled),
        }


def clusters_of(names: Sequence[str], cases: Sequence[EdgeCase], classes: Sequence[str]) -> tuple[Cluster, ...]:
    """Counts edge cases by the names of their clusters, those with the largest share first."""
    sizes = Counter(names)
    found = []
    for cluster, size in sizes.items():
        inside = [case for case in cases if case.cluster == cluster]
        labels = Counter(str(case.expected[name]) for case in inside for name in classes if name in case.expected)
        found.append(Cluster(cluster, size, len(inside), tuple(label for label, _ in labels.most_common())))
    return tuple(sorted(found, key=lambda each: (-each.cases / each.n, each.name)))
