from __future__ import annotations

import dspy
import pytest

from progspace.evaluation.evaluation import compare_cells, evaluate_cells, measured_cells
from progspace.store.records import Cell

EXAMPLES = [dspy.Example(text=str(number)).with_inputs("text") for number in range(4)]


def cells(scores: list[float | None]) -> list[Cell]:
    return [
        Cell("p", str(number), "m", score=None, error="refused")
        if score is None
        else Cell("p", str(number), "m", score=score, calls=2, input_tokens=90, output_tokens=10, seconds=3.0)
        for number, score in enumerate(scores)
    ]


def test_what_an_example_costs_is_told_of_those_that_were_answered() -> None:
    all_answered, half = (evaluate_cells(cells(scores), EXAMPLES) for scores in ([1.0] * 4, [1.0, None, None, 1.0]))
    assert (half.n, half.failed) == (2, 2)
    assert half.tokens_per_example == all_answered.tokens_per_example == 100
    assert half.seconds == all_answered.seconds == 3
    for told in (half.measured(), all_answered.measured()):
        assert (told.calls, told.tokens, told.input_tokens) == (2, 100, 90)


def test_what_is_read_of_cells_alone_is_the_same() -> None:
    some = cells([1.0, None, 0.0, 0.5])
    told = measured_cells(some)
    assert told == evaluate_cells(some, EXAMPLES).measured()
    assert (told.n, told.failed, told.errors, told.tokens) == (3, 1, 0, 100)


def test_a_verdict_tells_the_examples_that_both_answered() -> None:
    verdict = compare_cells(cells([1.0, None, 0.0, 1.0]), cells([0.0, 1.0, 0.0, None]), EXAMPLES).verdict()
    assert (verdict.n, verdict.score, verdict.baseline) == (2, 0.5, 0.0)
    assert verdict.difference == pytest.approx(0.5)


def test_what_differs_by_rounding_alone_is_neither_better_nor_worse() -> None:
    comparison = compare_cells(cells([0.1 + 0.2, 0.3, 1.0, 0.0]), cells([0.3, 0.1 + 0.2, 0.0, 1.0]), EXAMPLES)
    assert (comparison.test.wins_a, comparison.test.wins_b, comparison.test.ties) == (1, 1, 2)
    assert (comparison.better, comparison.worse) == (("2",), ("3",))
