"""``ps.gate``: is the new program no worse than the old one, and what did it break?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from ..errors import DataError, ProgramError
from ..lms.budget import Budget
from ..programs.task import Task
from ..store.database import Store
from . import numbers
from .evaluation import Comparison, check_cells, compare_cells
from .executor import Workers
from .noninferiority import GateVerdict, NonInferiority, check_margin, noninferiority
from .scoring import DEFAULT_STORE, run_both
from .shown import Shown

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Change", "Gate", "changes", "check_gate", "gate", "judge_comparison"]


@dataclass(frozen=True, slots=True)
class Change:
    """An example on which two programs scored differently.

    Attributes:
        example: Its identity.
        inputs: What went in.
        expected: Its labels.
        old: What the old program gave.
        new: What the new program gave.
        old_score: The old program's score.
        new_score: The new program's score.
        said: The new program's error, or what the metric said of its output.
    """

    example: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    old: dict[str, Any]
    new: dict[str, Any]
    old_score: float
    new_score: float
    said: str | None


@dataclass(frozen=True, slots=True)
class Gate(Shown):
    """What a gate says of a new program, ``comparison.a``, against an old one, ``comparison.b``.

    Attributes:
        verdict: ``no worse``, ``worse`` or ``cannot tell``.
        why: In one sentence.
        comparison: Of the two, on the same examples.
        test: The non-inferiority test that the verdict is from.
        broken: Examples on which the new program scored lower.
        mended: Examples on which it scored higher.
        unanswered: Examples that are not compared, because the LM left one of the programs without an answer.
    """

    verdict: GateVerdict
    why: str
    comparison: Comparison
    test: NonInferiority
    broken: tuple[Change, ...]
    mended: tuple[Change, ...]
    unanswered: int

    def passes(self, *, cannot_tell: bool = False) -> bool:
        """Tells whether the new program may go on.

        Args:
            cannot_tell: Whether it may where nothing is shown either way.
        """
        return self.verdict == "no worse" or (cannot_tell and self.verdict == "cannot tell")

    @property
    def lines(self) -> list[str]:
        """What a person should know, in sentences."""
        test, names = self.test, (self.comparison.a.name, self.comparison.b.name)
        between = numbers.points_between(test.interval.low, test.interval.high)
        lines = [
            f"{self.verdict}: {self.why}.",
            f"{names[0]} − {names[1]}: {numbers.points(test.difference)} points, "
            f"{numbers.percent(test.interval.level)} interval {between} ({test.interval.method}), on "
            f"{numbers.count(test.n)} rows: {len(self.broken)} broke, {len(self.mended)} were mended. "
            f"p of a loss of {100 * test.margin:.1f} points {numbers.p_value(test.p_no_worse)} ({test.method}), "
            f"of no loss {numbers.p_value(test.p_worse)}.",
        ]
        if self.verdict == "cannot tell":
            lines.append(
                f"It would take about {numbers.count(test.rows_if_alike)} rows if the two are equally good, "
                f"{numbers.count(test.rows_if_measured)} if the true difference is the measured one: {test.reckoned}."
            )
        if self.unanswered:
            lines.append(f"The LM left {numbers.count(self.unanswered)} rows without an answer; they are not compared.")
        return lines

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        from .gate_rendering import gate_view  # which knows this module

        return gate_view(self)

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Gives everything as JSON values: the comparison's, and those of the gate under ``gate``."""
        told = {
            **asdict(self.test),
            "verdict": self.verdict,
            "why": self.why,
            "unanswered": self.unanswered,
            "broken": [asdict(change) for change in self.broken],
            "mended": [asdict(change) for change in self.mended],
        }
        return {**self.comparison.to_dict(rows=rows), "gate": told}


def gate(
    new: dspy.Module,
    old: dspy.Module,
    task: Task,
    *,
    lm: dspy.BaseLM,
    margin: float = 0.01,
    alpha: float = 0.05,
    split: str = "dev",
    data: Any = None,
    store: str | Path | Store = DEFAULT_STORE,
    budget: Budget | None = None,
    workers: Workers = None,
    seed: int = 0,
    names: tuple[str, str] = ("new", "old"),
) -> Gate:
    """Tells whether a new program is no worse than an old one on a task; what is in the store costs nothing.

    The other arguments, and the errors, are those of `progspace.compare`; but a program that fails on every example
    scores 0 on each, as on any other that it fails on, if the other program does not fail on every one as well.

    Args:
        new: The program that wants to take the old one's place.
        old: The one that is in use.
        task: Gives the examples and the metric.
        lm: Answers for predictors without an LM of their own.
        margin: The loss that is put up with, in units of the score: 0.01 is a point.
        alpha: How often each verdict is wrong, at most.
        split: ``dev``, ``train``, or ``test``. A program that was chosen by its scores on dev looks better there than
            it is: ``test``, or ``data`` of its own, is fairer to the old one.
        data: Examples in place of a split, in any form that a task's may have.
        store: A file, or an open store.
        budget: What may be spent; None for no limit.
        workers: As in `progspace.compare`.
        seed: Of resampling.
        names: Of the new and the old program, in what is printed.

    Raises:
        DataError: The margin or alpha is out of range; or an error of the data.
        ProgramError: Both programs fail on every example.
    """
    check_gate(margin, alpha)
    examples, cells = run_both(
        new, old, task, lm=lm, split=split, data=data, store=store, budget=budget, workers=workers, seed=seed
    )
    broken: list[str] = []
    for own, name in zip(cells, names, strict=True):
        try:
            check_cells(own, name)
        except ProgramError as error:
            broken.append(str(error))
    if len(broken) == len(names):
        raise ProgramError("; ".join(broken))
    compared = compare_cells(*cells, examples, names=names, seed=seed)
    return judge_comparison(compared, margin=margin, alpha=alpha, seed=seed)


def check_gate(margin: float, alpha: float) -> None:
    """Refuses a margin or an alpha that a gate cannot judge by, before anything is paid for.

    Raises:
        DataError: One of them is out of range.
    """
    try:
        check_margin(margin, alpha)
    except ValueError as error:
        raise DataError(str(error)) from error


def judge_comparison(comparison: Comparison, *, margin: float = 0.01, alpha: float = 0.05, seed: int = 0) -> Gate:
    """Gives the verdict on a comparison whose first program is the new one; arguments are those of `gate`.

    Raises:
        DataError: The margin or alpha is out of range.
    """
    check_gate(margin, alpha)
    pairs = list(zip(comparison.a.rows, comparison.b.rows, strict=True))
    scored = [(new.score, old.score) for new, old in pairs if new.score is not None and old.score is not None]
    test = noninferiority([new for new, _ in scored], [old for _, old in scored], margin=margin, alpha=alpha, seed=seed)
    verdict, why, unanswered = test.verdict, test.why, len(pairs) - len(scored)
    if comparison.same:
        verdict, why = "no worse", "both are one program"
    elif verdict == "no worse" and unanswered > margin * len(pairs):
        verdict, why = "cannot tell", "more rows than the margin allows were left without an answer of the LM"
    return Gate(
        verdict=verdict,
        why=why,
        comparison=comparison,
        test=test,
        broken=changes(comparison, comparison.worse),
        mended=changes(comparison, comparison.better),
        unanswered=unanswered,
    )


def changes(comparison: Comparison, of: Sequence[str]) -> tuple[Change, ...]:
    """What a comparison's first program changed on some examples that both have a score on.

    Args:
        comparison: Its first program is the new one.
        of: Identities of the examples.
    """
    told = set(of)
    return tuple(
        Change(
            example=new.example,
            inputs=new.inputs,
            expected=new.expected,
            old=old.output,
            new=new.output,
            old_score=old.score,
            new_score=new.score,
            said=new.error or new.feedback,
        )
        for new, old in zip(comparison.a.rows, comparison.b.rows, strict=True)
        if new.example in told and new.score is not None and old.score is not None
    )
