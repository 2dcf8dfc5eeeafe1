from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.arena import FIRST, Arena
from progspace.optimizers.ladder import Ladder
from progspace.optimizers.promotion import Promotion
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.races.registry import DEFAULT_RACE, RACES
from progspace.optimizers.rung import Listener, RungPlan
from progspace.optimizers.rung_search import SearchMeans
from progspace.programs.candidate import Candidate
from progspace.store.database import Store


def rule(prompt: str) -> str:
    """Right on three days of five, and on four where it is told to look."""
    day, sunny = int(prompt.rsplit("day ", 1)[-1].split()[0]), "sun" in prompt.rsplit("## text ##", 1)[-1]
    right = (day // 2) % 5 < (4 if "Look." in prompt else 3)
    return f"[[ ## mood ## ]]\n{'glad' if sunny == right else 'sad'}"


class Once:
    """Proposes some candidates, once; keeps on how many examples the program as declared had run by then."""

    def __init__(self, name: str, candidates: list[Candidate]) -> None:
        self.name, self.candidates = name, candidates
        self.declared: list[int] = []

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        (declared,) = [each for each in state.standings if each.order == 0]
        self.declared.append(len(declared.cells))
        given, self.candidates = self.candidates, []
        return given


@pytest.mark.parametrize("proven", [False, True])
def test_a_gain_is_proven_before_a_rung_that_may_take_the_last_calls(
    rule_engine: Any, store: Store, mood: Any, *, proven: bool
) -> None:
    rows = [
        {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(400)
    ]
    task = ps.Task(program=dspy.Predict(mood), examples=rows, metric=ps.metrics.choice("mood"), test=())
    lm = rule_engine(rule).lm()
    arena = Arena(task, task.dev, Matrix(store, task.metric, lm, Meter(ps.Budget(calls=200)), workers=1))
    means = SearchMeans(arena, ps.Space(), lm, Promotion(beyond_luck=0.999), RACES[DEFAULT_RACE], 0, Listener())
    declared = Candidate.declared(task.program)
    first = Once("first", [declared.with_choice(instruction=f"{word} Look.") for word in ("Now", "Please", "Stop.")])
    last = Once("last", [declared.with_choice(instruction=f"{number}. Look.") for number in range(8)])
    climb = Ladder(means).climb(
        [RungPlan("first", (first,), share=0.5), RungPlan("last", (last,), share=1.0, proven=proven)]
    )
    winner = climb.rungs[1].best
    assert len(winner.cells) > FIRST
    assert (last.declared[0] >= len(winner.cells)) is proven
    assert sum(rung.spent.calls for rung in climb.rungs) == arena.matrix.meter.spent.calls
