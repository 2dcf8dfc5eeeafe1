from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.arena import FIRST, Arena
from progspace.optimizers.ladder import Ladder
from progspace.optimizers.promotion import Promotion, Verdict
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.races.registry import DEFAULT_RACE, RACES
from progspace.optimizers.rung import Climb, Listener, Rung, RungPlan
from progspace.optimizers.rung_search import SearchMeans
from progspace.programs.candidate import Candidate, demonstration
from progspace.store.database import Store


def rule(prompt: str) -> str:
    """Right on three days of five, and on four where it is told to look."""
    day, sunny = int(prompt.rsplit("day ", 1)[-1].split()[0]), "sun" in prompt.rsplit("## text ##", 1)[-1]
    right = (day // 2) % 5 < (4 if "Look." in prompt else 3)
    return f"[[ ## mood ## ]]\n{'glad' if sunny == right else 'sad'}"


def all_or_half(prompt: str) -> str:
    """Right on every day where it is told to look, and else on every other one."""
    day, sunny = int(prompt.rsplit("day ", 1)[-1].split()[0]), "sun" in prompt.rsplit("## text ##", 1)[-1]
    right = "Look." in prompt or (day // 2) % 2 == 0
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


def weather_of(mood: Any, days: int) -> ps.Task:
    rows = [
        {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(days)
    ]
    return ps.Task(program=dspy.Predict(mood), examples=rows, metric=ps.metrics.choice("mood"), test=())


@pytest.fixture
def weather(mood: Any) -> ps.Task:
    return weather_of(mood, 400)


def means(
    task: ps.Task, store: Store, lm: dspy.BaseLM, calls: int, *, told: Listener | None = None, **wanted: Any
) -> SearchMeans:
    arena = Arena(task, task.dev, Matrix(store, task.metric, lm, Meter(ps.Budget(calls=calls)), workers=1))
    promotion = Promotion(ps.Objectives(**wanted))
    return SearchMeans(arena, ps.Space(), lm, promotion, RACES[DEFAULT_RACE], 0, told or Listener())


def looking(task: ps.Task, openings: Sequence[str]) -> list[Candidate]:
    """Candidates that are told to look."""
    declared = Candidate.declared(task.program)
    return [declared.with_choice(instruction=f"{opening} Look.") for opening in openings]


@pytest.mark.parametrize("proven", [False, True])
def test_a_gain_is_proven_before_a_rung_that_may_take_the_last_calls(
    rule_engine: Any, store: Store, weather: ps.Task, *, proven: bool
) -> None:
    given = means(weather, store, rule_engine(rule).lm(), 200, sure=0.999)
    first = Once("first", looking(weather, ("Now", "Please", "Stop.")))
    last = Once("last", looking(weather, [f"{number}." for number in range(8)]))
    climb = Ladder(given).climb(
        [RungPlan("first", (first,), share=0.5), RungPlan("last", (last,), share=1.0, proven=proven)]
    )
    winner = climb.rungs[1].best
    assert len(winner.cells) > FIRST
    assert (last.declared[0] >= len(winner.cells)) is proven
    assert sum(rung.spent.calls for rung in climb.rungs) == given.arena.matrix.meter.spent.calls


def test_where_calls_are_few_so_are_candidates_and_what_proves_a_gain_is_put_aside(
    rule_engine: Any, store: Store, weather: ps.Task
) -> None:
    asked_for: list[int] = []

    class Counted(Once):
        def propose(self, state: SearchState, count: int) -> list[Candidate]:
            asked_for.append(count)
            return super().propose(state, count)[:count]

    given = means(weather, store, rule_engine(all_or_half).lm(), 60)
    many = Counted("many", looking(weather, [f"{number}." for number in range(30)]))
    climb = Ladder(given).climb([RungPlan("many", (many,), share=1.0), RungPlan("more", (), share=1.0)])
    assert 2 <= asked_for[0] <= 10
    assert climb.rungs[1].kept
    left = given.arena.matrix.meter.calls_left
    assert left is not None
    assert left >= given.promotion.proof(given.arena, given.arena.declared) >= FIRST
    assert climb.ended == f"more: not searched: the {left} calls that are left would tell little."


@pytest.mark.parametrize(("limit", "twice"), [(1_000, True), (1, False)])
def test_a_good_program_is_looked_at_twice_but_where_it_breaks_a_limit(
    rule_engine: Any, store: Store, weather: ps.Task, *, limit: float, twice: bool
) -> None:
    def right(prompt: str) -> str:
        return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('## text ##', 1)[-1] else 'sad'}"

    given = means(weather, store, rule_engine(right).lm(), 1_000, limits={"tokens": limit})
    first = Once("first", looking(weather, ["Now"]))
    climb = Ladder(given).climb([RungPlan("first", (first,), share=0.1)])
    assert (len(climb.rungs[0].best.cells) > FIRST) is twice
    assert bool(first.declared) is not twice


def test_what_is_left_in_the_end_goes_on_proving_for_as_long_as_it_may_tell(
    rule_engine: Any, store: Store, weather: ps.Task
) -> None:
    climbed: list[Rung] = []
    given = means(weather, store, rule_engine(rule).lm(), 1_000, told=Listener(kept=climbed.append), sure=0.999998)
    climb = Ladder(given).climb([RungPlan("first", (Once("first", looking(weather, ["Now"])),), share=0.1)])
    was, at_first = climbed[1].verdict, climbed[1].best
    assert was is not None
    assert 0.9 < was.better < 0.999999
    declared, winner = list(given.arena.standings.values())
    assert len(declared.cells) == len(winner.cells) > len(at_first.cells)
    proven = given.promotion.chances(given.arena.board(list(given.arena.standings), fresh=True))[1] > 0.999999
    assert climb.rungs[1].kept is proven
    assert proven or len(winner.cells) == len(given.arena.raced)


@pytest.mark.parametrize(("sure", "kept"), [(0.5, True), (0.9999, False)])
def test_how_sure_a_gain_has_to_be_is_for_the_user_to_say(
    rule_engine: Any, store: Store, weather: ps.Task, *, sure: float, kept: bool
) -> None:
    given = means(weather, store, rule_engine(rule).lm(), 100, sure=sure)
    climb = Ladder(given).climb([RungPlan("first", (Once("first", looking(weather, ["Now"])),), share=0.5)])
    verdict = climb.rungs[1].verdict
    assert verdict is not None
    assert 0.5 < verdict.better < 0.9999
    assert climb.rungs[1].kept is kept


@dataclass(frozen=True)
class Doubting(Promotion):
    """Finds no gain over the program as declared in what is told a word."""

    word: str = ""

    def against_baseline(
        self, arena: Arena, keys: Sequence[str], winner: str, *, to_the_end: bool = False
    ) -> tuple[bool, Verdict]:
        kept, verdict = super().against_baseline(arena, keys, winner, to_the_end=to_the_end)
        return kept and self.word not in str(arena.standings[winner].candidate.predictors["self"].instruction), verdict


@pytest.mark.parametrize(("doubted", "kept"), [("Wait", [True, True, False]), ("Look", [True, False, False])])
def test_where_the_last_gain_cannot_be_told_from_luck_the_one_below_stays(
    rule_engine: Any, store: Store, weather: ps.Task, doubted: str, kept: list[bool]
) -> None:
    def better_and_better(prompt: str) -> str:
        """Right on every other day, on four of five where it is told to look, and always where it is to wait."""
        return all_or_half(prompt) if "Wait" in prompt or "Look." not in prompt else rule(prompt)

    given = replace(means(weather, store, rule_engine(better_and_better).lm(), 500), promotion=Doubting(word=doubted))
    first, last = Once("first", looking(weather, ["Now."])), Once("last", looking(weather, ["Wait."]))
    climb = Ladder(given).climb([RungPlan("first", (first,), share=0.4), RungPlan("last", (last,), share=0.5)])
    assert [rung.kept for rung in climb.rungs] == kept
    told = [rung.verdict.reason for rung in climb.rungs[1:] if rung.verdict and not rung.kept]
    assert all("told from luck" in reason for reason in told)
    assert len(told) == kept.count(False)


def test_where_dev_cannot_tell_a_gain_train_examples_do_that_no_candidate_was_chosen_on(
    rule_engine: Any, store: Store, mood: Any
) -> None:
    weather = weather_of(mood, 80)

    def climb(spare: bool) -> tuple[SearchMeans, Climb]:
        given = means(weather, store, rule_engine(rule).lm(), 2_000, sure=0.9995)
        given.arena.spare = list(weather.train[::-1]) if spare else []
        shown = Candidate.declared(weather.program).with_choice(
            instruction="Look.", demonstrations=tuple(demonstration(dict(each)) for each in weather.train[-3:])
        )
        return given, Ladder(given).climb([RungPlan("first", (Once("first", [shown]),), share=0.1)])

    without, kept_without = climb(spare=False)
    declared, winner = list(without.arena.standings.values())
    assert len(declared.cells) == len(winner.cells) == len(without.arena.raced)
    assert not kept_without.rungs[1].kept
    given, kept = climb(spare=True)
    declared, winner = list(given.arena.standings.values())
    assert kept.rungs[1].kept
    assert winner.spare[:3] == (None, None, None)  # its own demonstrations
    assert all(cell is not None for cell in (*winner.spare[3:], *declared.spare))
    assert 0 < len(winner.spare) == len(declared.spare) < len(weather.train)
    assert f"{len(winner.spare) - 3} train examples" in kept.notes[-1]
    assert winner.scores == [cell.score for cell in (*winner.cells, *winner.fresh)]  # the dev score is of dev alone
    assert sum(rung.spent.calls for rung in kept.rungs) == given.arena.matrix.meter.spent.calls
