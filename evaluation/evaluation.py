"""Scores of one program, and the comparison of two, read from the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dspy

from ..errors import DataError, LMError, ProgramError
from ..store.records import Cell
from .findings import Measured, Verdict
from .shown import Shown
from .statistics import Interval, PairedTest, mean_interval, paired_scores, paired_test

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Comparison",
    "Evaluation",
    "Row",
    "check_cells",
    "compare_cells",
    "evaluate_cells",
    "measured_cells",
    "verdict_of",
]


# What another prompt or format may mend: a low score, not a broken program.
_OF_THE_PROMPT = ("AdapterParseError", "ContextWindowExceededError")


@dataclass(frozen=True, slots=True)
class Row:
    """One example of an evaluation: what went in, what came out, and what the metric said."""

    example: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    output: dict[str, Any]
    score: float | None
    feedback: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Evaluation(Shown):
    """How a program did on examples.

    Attributes:
        name: Of the program, for people.
        score: The mean over the examples that were answered.
        interval: Of the score.
        n: Examples that were scored.
        failed: Examples on which the LM gave no answer; they have no score.
        errors: Examples on which the program itself failed; they score 0.
        calls: LM calls that the program makes for the examples that were scored, bought now or known before.
        input_tokens: Of those calls.
        output_tokens: Of those calls.
        seconds: The mean time of an example that was scored, while others ran beside it.
        rows: Example by example.
    """

    name: str
    score: float
    interval: Interval
    n: int
    failed: int
    errors: int
    calls: int
    input_tokens: int
    output_tokens: int
    seconds: float
    rows: tuple[Row, ...]

    @property
    def tokens_per_example(self) -> float:
        """Tokens in and out, a mean."""
        return (self.input_tokens + self.output_tokens) / max(1, self.n)

    def measured(self) -> Measured:
        """What a report keeps."""
        examples = max(1, self.n)
        return Measured(
            score=self.score,
            low=self.interval.low,
            high=self.interval.high,
            level=self.interval.level,
            method=self.interval.method,
            n=self.n,
            failed=self.failed,
            errors=self.errors,
            calls=self.calls / examples,
            tokens=self.tokens_per_example,
            input_tokens=self.input_tokens / examples,
            seconds=self.seconds,
        )

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Gives everything as JSON values."""
        document = asdict(self)
        if not rows:
            del document["rows"]
        return document

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        from .rendering import evaluation_view  # which knows this module

        return evaluation_view(self)


@dataclass(frozen=True, slots=True)
class Comparison(Shown):
    """How two programs did on the same examples; ``difference`` is the first's score minus the second's.

    Attributes:
        test: The paired test of the difference.
        a: Evaluation of the first program.
        b: Evaluation of the second program.
        better: Examples on which the first scored higher.
        worse: Examples on which the second scored higher.
        same: Whether both are one program, by content.
    """

    test: PairedTest
    a: Evaluation
    b: Evaluation
    better: tuple[str, ...]
    worse: tuple[str, ...]
    same: bool = False

    @property
    def difference(self) -> float:
        """The first program's mean score minus the second's."""
        return self.test.difference

    @property
    def interval(self) -> Interval:
        """Of the difference."""
        return self.test.interval

    @property
    def p_value(self) -> float:
        """Of the paired test, two-sided."""
        return self.test.p_value

    def verdict(self) -> Verdict:
        """What a report keeps."""
        return verdict_of(self.test)

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {
            "difference": self.difference,
            "interval": asdict(self.interval),
            "p_value": self.p_value,
            "test": asdict(self.test),
            "better": list(self.better),
            "worse": list(self.worse),
            "same": self.same,
            "a": self.a.to_dict(rows=rows),
            "b": self.b.to_dict(rows=rows),
        }

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        from .rendering import comparison_view

        return comparison_view(self)


def verdict_of(test: PairedTest) -> Verdict:
    """What a report keeps of a paired test."""
    return Verdict(
        difference=test.difference,
        low=test.interval.low,
        high=test.interval.high,
        p_value=test.p_value,
        wins=test.wins_a,
        losses=test.wins_b,
        method=test.method,
        n=test.n,
        score=test.mean_a,
        baseline=test.mean_b,
    )


def check_cells(cells: Sequence[Cell], name: str = "program") -> None:
    """Refuses a program that does not run at all: the user's own is to be mended, a candidate of a search scores 0.

    Raises:
        LMError: The LM answered on none of the examples.
        ProgramError: The program failed on every one, for the same reason and not for what the LM wrote.
    """
    errors = [cell.error for cell in _answered(cells) if cell.error is not None]
    if len(errors) == len(cells) and len(set(errors)) == 1 and not errors[0].startswith(_OF_THE_PROMPT):
        raise ProgramError(f"{name} failed on each of {len(cells)} examples: {errors[0]}")


def evaluate_cells(
    cells: Sequence[Cell], examples: Sequence[dspy.Example], *, name: str = "program", seed: int = 0
) -> Evaluation:
    """Reads an evaluation from a program's cells on examples, both in one order.

    Raises:
        LMError: The LM answered on none of them.
    """
    return _evaluation(cells, [_row(cell, example) for cell, example in zip(cells, examples, strict=True)], name, seed)


def measured_cells(cells: Sequence[Cell]) -> Measured:
    """Reads what a report keeps of an evaluation from a program's cells alone.

    Raises:
        LMError: The LM answered on none of them.
    """
    return _evaluation(cells, (), "program", 0).measured()


def _evaluation(cells: Sequence[Cell], rows: Sequence[Row], name: str, seed: int) -> Evaluation:
    answered = _answered(cells)
    scores = [cell.score for cell in answered if cell.score is not None]
    return Evaluation(
        name=name,
        score=sum(scores) / len(scores),
        interval=mean_interval(scores, seed=seed),
        n=len(scores),
        failed=len(cells) - len(scores),
        errors=sum(cell.error is not None for cell in answered),
        calls=sum(cell.calls for cell in answered),
        input_tokens=sum(cell.input_tokens for cell in answered),
        output_tokens=sum(cell.output_tokens for cell in answered),
        seconds=sum(cell.seconds for cell in answered) / len(answered),
        rows=tuple(rows),
    )


def compare_cells(
    a: Sequence[Cell],
    b: Sequence[Cell],
    examples: Sequence[dspy.Example],
    *,
    names: tuple[str, str] = ("a", "b"),
    seed: int = 0,
) -> Comparison:
    """Compares two programs on the examples that both have a score on; all three sequences in one order.

    Raises:
        LMError: There is no such example.
    """
    both = [(one, other) for one, other in zip(a, b, strict=True) if one.score is not None and other.score is not None]
    if not both:
        raise LMError("there is no example on which the LM answered both programs")
    ours, theirs = [one.score or 0.0 for one, _ in both], [other.score or 0.0 for _, other in both]
    differences = paired_scores(ours, theirs)[2].tolist()
    return Comparison(
        test=paired_test(ours, theirs, seed=seed),
        a=evaluate_cells(a, examples, name=names[0], seed=seed),
        b=evaluate_cells(b, examples, name=names[1], seed=seed),
        better=tuple(one.example for (one, _), gain in zip(both, differences, strict=True) if gain > 0),
        worse=tuple(one.example for (one, _), gain in zip(both, differences, strict=True) if gain < 0),
        same=both[0][0].program == both[0][1].program,
    )


def _answered(cells: Sequence[Cell]) -> list[Cell]:
    """Gives the cells that have a score."""
    if not cells:
        raise DataError("there are no examples to evaluate on")
    answered = [cell for cell in cells if cell.score is not None]
    if not answered:
        raise LMError(f"the LM answered on none of {len(cells)} examples; the first error: {cells[0].error}")
    return answered


def _row(cell: Cell, example: dspy.Example) -> Row:
    return Row(
        example=cell.example,
        inputs=dict(example.inputs().toDict()),
        expected=dict(example.labels().toDict()),
        output=dict(cell.output),
        score=cell.score,
        feedback=cell.feedback,
        error=cell.error,
    )
