from __future__ import annotations

import random
from collections import Counter
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.optimizers.race import Standing, best_of, plan_rounds, sequential_halving
from progspace.programs.candidate import Candidate
from progspace.store.records import Cell

EXAMPLES = [dspy.Example(i=i) for i in range(120)]


def candidates(count: int) -> list[Candidate]:
    declared = Candidate.declared(dspy.Predict("text -> label"))
    return [declared.with_choice(instruction=f"Do it {i}.", origin=str(i)) for i in range(count)]


class Coins:
    """Candidate i solves each example with its own probability; what was bought is counted."""

    def __init__(self, chances: list[float], seed: int, limit: int | None = None) -> None:
        self.chances, self.limit = chances, limit
        generator = random.Random(seed)
        self.scores = [[float(generator.random() < chance) for _ in EXAMPLES] for chance in chances]
        self.bought: Counter[int] = Counter()

    def __call__(self, candidate: Candidate, examples: Any) -> tuple[Candidate, list[Cell]]:
        index = int(candidate.origin)
        self.bought[index] = max(self.bought[index], len(examples))
        if self.limit is not None and sum(self.bought.values()) > self.limit:
            raise ps.BudgetExceeded("the budget is spent")
        scores = self.scores[index][: len(examples)]
        return candidate, [
            Cell(str(index), str(e.i), "m", score=s, input_tokens=10) for e, s in zip(examples, scores, strict=True)
        ]


def test_the_best_mostly_wins_for_a_fraction_of_the_calls() -> None:
    won = calls = 0
    for seed in range(100):
        coins = Coins([0.5] * 15 + [0.8], seed)
        result = sequential_halving(candidates(16), EXAMPLES, coins, calls=None)
        won += result.standings[0].candidate.origin == "15"
        calls += sum(coins.bought.values())
        assert [len(each.cells) for each in result.standings][:4] == [120] * 4
    assert won >= 90
    assert calls / 100 < 0.55 * 16 * 120


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("calls", [None, 10, 119, 120, 500, 5000])
def test_a_plan_keeps_to_its_calls(count: int, calls: int | None) -> None:
    rounds = plan_rounds(count, 120, calls=calls)
    if calls is not None and calls < 120:
        assert rounds == []
        return
    assert [size for size, _ in rounds] == [30, 60, 120]
    coins = Coins([0.5] * count, 0)
    sequential_halving(candidates(count), EXAMPLES, coins, calls=calls)
    assert calls is None or sum(coins.bought.values()) <= calls


def test_equal_candidates_are_one() -> None:
    coins = Coins([0.5], 0)
    twice = [*candidates(1), candidates(1)[0].model_copy(update={"origin": "0"})]
    assert len(sequential_halving(twice, EXAMPLES, coins, calls=None).standings) == 1


def test_where_the_budget_ends_what_is_known_is_told() -> None:
    coins = Coins([0.3, 0.9, 0.3, 0.3], 0, limit=150)
    result = sequential_halving(candidates(4), EXAMPLES, coins, calls=None)
    assert result.exhausted == "the budget is spent"
    assert result.standings
    assert all(standing.cells for standing in result.standings)


def standing(index: int, mean: float, n: int, tokens: int) -> Standing:
    cells = [Cell("p", str(i), "m", score=float(i < mean * n), input_tokens=tokens) for i in range(n)]
    return Standing(candidates(index + 1)[index], tuple(cells), index)


def test_of_equals_the_cheaper_is_chosen_and_lucky_scores_are_shrunken() -> None:
    best, shrunken = best_of([standing(0, 0.8, 100, 50), standing(1, 0.8, 100, 20), standing(2, 0.6, 100, 1)])
    assert best.candidate.origin == "1"
    assert 0.6 < shrunken < 0.8
