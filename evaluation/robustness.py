"""``ps.robustness``: what a program's score loses to changes of its inputs that keep the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from ..errors import DataError, LMError
from ..lms.budget import Budget, Meter
from ..programs.examples import example_hash
from ..programs.perturbations import PERTURBATIONS, Perturbation, perturb, text_fields
from ..programs.task import Task
from ..store.database import Store, open_store
from ..store.records import Cell
from .checks import check_alpha, check_at_least
from .evaluation import Evaluation, check_cells, compare_cells, evaluate_cells
from .gate import Change, changes
from .matrix import Matrix
from .scoring import DEFAULT_STORE, examples_of
from .shown import Shown
from .statistics import Interval, PairedTest, mean_interval, paired_test
from .suite import grow_suite

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Perturbed", "Robustness", "robustness"]


@dataclass(frozen=True, slots=True)
class Perturbed:
    """What one perturbation did.

    Attributes:
        name: Of the perturbation.
        test: The perturbed rows' scores minus the same rows' as they are; all perturbations' intervals hold together.
        p_value: Two-sided, of no difference; times the number of perturbations (Bonferroni).
        broken: Rows that score lower than before, as they were perturbed.
        unchanged: Rows on which it changes nothing; they are in no score of it.
        unanswered: Rows that are in no score because the LM did not answer.
    """

    name: str
    test: PairedTest
    p_value: float
    broken: tuple[Change, ...]
    unchanged: int
    unanswered: int


@dataclass(frozen=True, slots=True)
class Robustness(Shown):
    """How a program bears changes of its inputs.

    Attributes:
        program: Its name.
        fields: The inputs that were changed.
        original: On the rows as they are.
        perturbed: By perturbation.
        worst: The mean over rows of the lowest score that a row has, as it is or perturbed: the robust score.
        interval: Of it.
        examples: The perturbed rows that broke, by identity.
    """

    program: str
    fields: tuple[str, ...]
    original: Evaluation
    perturbed: tuple[Perturbed, ...]
    worst: float
    interval: Interval
    examples: Mapping[str, dspy.Example]

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        from .edge_rendering import robustness_view  # which knows this module

        return robustness_view(self)

    def suite(self, path: str | Path, task: Task, *, name: str | None = None) -> int:
        """Adds the rows that broke to a regression suite, as they were perturbed; gives how many are new.

        See `progspace.evaluation.suite.grow_suite`.
        """
        rows = [
            (self.examples[change.example], {"why": [f"broke by {each.name}"]})
            for each in self.perturbed
            for change in each.broken
        ]
        return grow_suite(path, task, rows, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {
            "program": self.program,
            "fields": list(self.fields),
            "worst": self.worst,
            "interval": asdict(self.interval),
            "original": self.original.to_dict(rows=False),
            "perturbed": [asdict(each) for each in self.perturbed],
        }


def robustness(
    program: dspy.Module,
    task: Task,
    *,
    lm: dspy.BaseLM,
    perturbations: Sequence[str] | Mapping[str, Perturbation] | None = None,
    fields: Sequence[str] | None = None,
    split: str = "dev",
    data: Any = None,
    alpha: float = 0.05,
    store: str | Path | Store = DEFAULT_STORE,
    budget: Budget | None = None,
    workers: int | None = None,
    seed: int = 0,
    name: str = "program",
) -> Robustness:
    """Scores a program on rows as they are and as they are perturbed, and compares the two row by row.

    The perturbations keep the label of most texts, not of all: look at what broke before you believe it.

    Args:
        program: Any module.
        task: Gives the examples and the metric.
        lm: Answers for predictors without an LM of their own.
        perturbations: Names of `progspace.programs.perturbations.PERTURBATIONS`, or functions of your own by name, each
            of a text and a ``random.Random``; None for all that there are.
        fields: The inputs that are changed; by default those that hold texts of several words. Choices, numbers and
            single words stay.
        split: ``dev``, ``train`` or ``test``.
        data: Examples in place of a split.
        alpha: How often any of the intervals is wrong.
        store: A file, or an open store; what is in it costs nothing.
        budget: What may be spent.
        workers: Examples that run at a time.
        seed: Of what perturbations draw, and of resampling.
        name: Of the program, in what is printed.

    Raises:
        DataError: There is no such perturbation or field, none has an effect, or alpha or the seed is out of range.
        BudgetExceeded: Nothing is left to spend; what was bought is stored.
        LMError: The LM answered on no example.
    """
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return robustness(
                program, task, lm=lm, perturbations=perturbations, fields=fields, split=split, data=data, alpha=alpha,
                store=opened, budget=budget, workers=workers, seed=seed, name=name,
            )  # fmt: skip
    check_alpha(alpha)
    check_at_least(0, seed=seed)
    chosen = _chosen(perturbations)
    examples = list(examples_of(task, split, data))
    changed = tuple(fields) if fields is not None else text_fields(examples, task.program)
    _check_fields(changed, task, chosen=fields is not None)
    matrix = Matrix.of(task, store, lm, Meter(budget), workers=workers)
    cells = matrix.fill(program, examples)
    check_cells(cells, name)
    original = evaluate_cells(cells, examples, name=name, seed=seed)
    lowest = {cell.example: cell.score for cell in cells if cell.score is not None}
    found: list[Perturbed] = []
    broke: dict[str, dspy.Example] = {}
    for key, how in chosen.items():
        pairs = [
            (cell, example, other)
            for cell, example in zip(cells, examples, strict=True)
            if (other := perturb(example, how, changed, name=key, seed=seed)) is not None
        ]
        if not pairs:
            continue
        others = [other for *_, other in pairs]
        filled = matrix.fill(program, others)
        before = [cell for cell, *_ in pairs]
        test = _test(key, before, filled, 1 - alpha / len(chosen), seed)
        comparison = compare_cells(filled, before, others, names=("perturbed", "as it is"), seed=seed)
        told = Perturbed(
            name=key,
            test=test,
            p_value=min(1.0, len(chosen) * test.p_value),
            broken=changes(comparison, comparison.worse),
            unchanged=len(examples) - len(pairs),
            unanswered=len(pairs) - test.n,
        )
        found.append(told)
        broken = {change.example for change in told.broken}
        broke |= {example_hash(other): other for other in others if example_hash(other) in broken}
        for (cell, *_), after in zip(pairs, filled, strict=True):
            if cell.example in lowest and after.score is not None:
                lowest[cell.example] = min(lowest[cell.example], after.score)
    if not found:
        raise DataError(f"no perturbation changes anything in {', '.join(changed)}")
    worst = list(lowest.values())
    return Robustness(
        program=name,
        fields=changed,
        original=original,
        perturbed=tuple(found),
        worst=sum(worst) / len(worst),
        interval=mean_interval(worst, seed=seed),
        examples=broke,
    )


def _test(name: str, before: Sequence[Cell], after: Sequence[Cell], level: float, seed: int) -> PairedTest:
    both = [
        (new.score, old.score)
        for new, old in zip(after, before, strict=True)
        if new.score is not None and old.score is not None
    ]
    if not both:
        raise LMError(f"the LM answered no row both as it is and with the perturbation {name}")
    return paired_test([new for new, _ in both], [old for _, old in both], level=level, seed=seed)


def _chosen(told: Sequence[str] | Mapping[str, Perturbation] | None) -> dict[str, Perturbation]:
    if isinstance(told, Mapping):
        chosen = dict(told)
    else:
        if unknown := [name for name in told or () if name not in PERTURBATIONS]:
            raise DataError(f"there is no perturbation {unknown[0]!r}; there is {', '.join(PERTURBATIONS)}")
        chosen = {name: PERTURBATIONS[name] for name in PERTURBATIONS if told is None or name in told}
    if not chosen:
        raise DataError("no perturbation was given")
    return chosen


def _check_fields(fields: Sequence[str], task: Task, *, chosen: bool) -> None:
    if unknown := [field for field in fields if field not in task.inputs]:
        raise DataError(f"the program is given no such field; it has {', '.join(task.inputs)}", field=unknown[0])
    if not fields:
        hint = "" if chosen else ": none of them holds texts of several words"
        raise DataError(f"say which inputs are to be changed{hint}; there is {', '.join(task.inputs)}")
