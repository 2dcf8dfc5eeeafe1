from __future__ import annotations

import random
import time
from typing import Any

import dspy
import numpy as np
import pytest
import sqlalchemy as sa

import progspace as ps
from progspace.errors import BudgetExceeded
from progspace.evaluation import numbers
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers import arena as arena_module
from progspace.optimizers.arena import Arena, _asked
from progspace.optimizers.board import Board
from progspace.optimizers.limits import limit_notes
from progspace.optimizers.objectives import Objectives
from progspace.optimizers.promotion import Promotion
from progspace.optimizers.races.base import Purchase
from progspace.optimizers.standing import Standing
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.retrieval import RetrievalChoice
from progspace.retrievers.search import Search
from progspace.store import schema
from progspace.store.database import Store
from progspace.store.records import Cell


def rule(prompt: str) -> str:
    """Right as often as the instruction says: ``Do it in 3 of 4.``; a longer one costs more tokens."""
    told = prompt.split(" of 4")[0].rsplit(" ", 1)[-1] if " of 4" in prompt else "0"
    day = int(prompt.rsplit("day ", 1)[-1].split()[0])
    right = "glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"
    return right if (day // 2) % 4 < int(told) else "?"


def candidate(mood: Any, right: int, words: int = 0) -> Candidate:
    instruction = f"Do it in {right} of 4." + " indeed" * words
    return Candidate.declared(dspy.Predict(mood)).with_choice(
        instruction=instruction, format=Format(kind="compact"), origin=f"{right} of 4, {words} words"
    )


def arena(rule_engine: Any, store: Store, mood: Any, mood_rows: Any, calls: int | None = None, **more: Any) -> Arena:
    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), test=())
    meter = Meter(ps.Budget(calls=calls))
    return Arena(task, task.dev, Matrix(store, task.metric, rule_engine(rule).lm(), meter), **more)


def test_rows_that_the_lm_did_not_answer_make_no_candidate_cheaper(mood: Any) -> None:
    answered = Cell("p", "e", "m", score=1.0, calls=1, input_tokens=90, output_tokens=10)
    unanswered = Cell("p", "f", "m", score=None, error="503")
    assert Standing(candidate(mood, 4), (answered, unanswered), fresh=(unanswered,)).tokens == 100
    assert Standing(candidate(mood, 4), (unanswered,)).tokens == 0


def test_interrupted_it_ends_what_is_under_way_and_begins_nothing(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an LM had answered was lost where the store was closed meanwhile, and paid for again."""
    there = arena(rule_engine, store, mood, mood_rows)
    engine = rule_engine(lambda prompt: time.sleep(0.02) or rule(prompt))
    there.matrix.lm = there.matrix.journaled(engine.lm())
    keys = there.add([candidate(mood, right) for right in range(4)], "me")

    def interrupt(_: Any) -> None:
        while len(engine.prompts) < 5:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(arena_module, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        there.buy_all(keys, 40)
    asked = len(engine.prompts)
    assert asked < 4 * 40
    answered = store.read(sa.select(sa.func.count()).select_from(schema.answers))
    assert answered[0][0] == asked == there.matrix.meter.spent.bought


def test_limits_that_the_winner_breaks_are_told_and_whether_anything_keeps_them(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    long, short, never_run = there.add([candidate(mood, 4, 50), candidate(mood, 1), candidate(mood, 0)], "me")
    winner = there.buy(long, 8)

    def told(limits: dict[str, float]) -> list[str]:
        return limit_notes(Promotion(Objectives(limits=limits)), there, winner)

    assert told({"tokens": 1000, "quality": 0.9}) == []
    (alone,) = told({"tokens": 40, "calls": 1})
    tokens = winner.tokens
    assert alone.startswith(f"The winner breaks the limits: tokens is {numbers.figure(tokens)}, at most 40 is allowed.")
    assert "Nothing that was tried keeps all limits: loosen them" in alone
    there.buy(short, 8)
    assert "Nothing that was tried" not in told({"tokens": 40})[0]
    assert "quality is 1, at least 2 is allowed" in told({"quality": 2})[0]
    assert not there.standings[never_run].scores


def test_equal_candidates_are_one_and_cells_are_bought_once(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    (key,) = there.add([candidate(mood, 3), candidate(mood, 3)], "me")
    assert there.add([candidate(mood, 3)], "someone else") == []
    there.buy(key, 8)
    assert there.matrix.meter.spent.calls == 8
    there.buy(key, 4)
    there.buy(key, 12)
    assert there.matrix.meter.spent.calls == 12
    assert len(there.standings[key].cells) == 12


def test_a_race_never_sees_the_fresh_part_and_a_promotion_does(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    keys = there.add([candidate(mood, 1), candidate(mood, 4)], "me")
    assert len(there.raced) + len(there.fresh) == len(there.dev)
    assert not {e.text for e in there.raced} & {e.text for e in there.fresh}
    there.buy(keys[1], len(there.raced))
    there.confirm(keys[1])
    assert there.board(keys).examples == len(there.raced)
    seen = there.board(keys, fresh=True)
    assert int(np.isfinite(seen.scores[1]).sum()) == len(there.dev)
    assert np.isnan(seen.scores[0]).all()
    assert there.standings[keys[1]].mean == 1.0


def test_a_promotion_takes_no_more_than_its_share_of_the_calls(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    (key,) = there.add([candidate(mood, 1)], "me")
    all_fresh = there.fresh
    there.keep_fresh(10_000)
    assert there.fresh == all_fresh
    each = len(there.buy(key, 2).cells[0].asked)
    there.keep_fresh(5 * each)
    assert there.fresh == all_fresh[:5]
    there.confirm(key)
    assert len(there.standings[key].fresh) == 5
    there.keep_fresh(0)
    assert len(there.fresh) == 4


class Everything:
    """Buys all at once, then is over."""

    def step(self, board: Board) -> Purchase | None:
        rows = tuple(row for row in range(board.candidates) if board.bought[row] < board.examples)
        return Purchase(rows, board.examples) if rows else None

    def best(self, board: Board) -> int:
        return int(board.means.argmax())


def test_a_race_ends_with_its_calls_or_the_budget_and_keeps_what_was_bought(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows, calls=30)
    keys = there.add([candidate(mood, right) for right in range(4)], "me")
    ended = there.run(Everything(), keys, calls=None)
    assert "30 calls" in str(ended)
    assert there.matrix.meter.spent.calls == 30
    assert store.count("answers") == 30


class Twice(dspy.Module):
    """Asks twice."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.first, self.second = dspy.Predict(mood), dspy.Predict(mood.with_instructions("Once more."))

    def forward(self, text: str) -> Any:
        self.first(text=text)
        return self.second(text=text)


def test_which_cells_have_the_last_calls_hangs_on_no_thread(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    waits = random.Random(0)

    def late(prompt: str) -> str:
        time.sleep(waits.random() / 100)
        return rule(prompt)

    task = ps.Task(program=Twice(mood), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"), test=())
    plain = Candidate.declared(task.program).with_choice(format=Format(kind="compact"))
    candidates = [plain.with_choice(instruction=f"Do it in {right} of 4.") for right in (1, 2)]
    bought = []
    for _ in range(3):
        matrix = Matrix(store, task.metric, rule_engine(late).lm(), Meter(ps.Budget(calls=21)), workers=8)
        there = Arena(task, task.dev, matrix)
        keys = there.add(candidates, "me")
        there.run(Everything(), keys, calls=None)
        with pytest.raises(BudgetExceeded):
            there.confirm(keys[0])
        assert matrix.meter.spent.calls == 21
        bought.append(matrix.meter.spent.bought)
    assert bought == [21, 0, 0]


def test_prompts_that_are_too_long_are_dropped_with_the_reason_and_not_kept(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows, max_prompt_tokens=40)
    keys = there.add([candidate(mood, 1), candidate(mood, 4, words=60), candidate(mood, 3)], "me")
    dropped: list[str] = []
    there.run(Everything(), keys, calls=None, on_dropped=lambda standing, why: dropped.append(why))
    assert len(dropped) == 1
    assert "above 40" in dropped[0]
    outcome = Promotion().decide(there, keys)
    assert (outcome.key, outcome.kept) == (keys[2], True)


class Eight(Everything):
    """Buys eight cells each."""

    def step(self, board: Board) -> Purchase | None:
        return Purchase(tuple(range(board.candidates)), 8)


def test_what_was_bought_outside_of_a_race_or_with_the_last_calls_may_be_too_long_as_well(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows, calls=12, max_prompt_tokens=40)
    keys = there.add([candidate(mood, 4, words=60), candidate(mood, 3, words=60), candidate(mood, 1)], "me")
    there.buy(keys[0], 2)
    assert there.too_long(keys[0])
    dropped: list[str] = []
    ended = there.run(Eight(), keys[1:], calls=None, on_dropped=lambda standing, why: dropped.append(why))
    assert "12 calls" in str(ended)
    assert [len(there.standings[key].cells) for key in keys] == [2, 8, 0]
    assert [there.too_long(key) for key in keys] == [True, True, False]
    assert len(dropped) == 1


def decided(there: Arena, keys: list[str], objectives: Objectives | None = None) -> Any:
    there.run(Everything(), keys, calls=None)
    return Promotion(objectives or Objectives()).decide(there, keys)


def test_what_is_better_is_kept_with_the_fresh_examples_as_witness(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    outcome = decided(there, there.add([candidate(mood, 2), candidate(mood, 4)], "me"))
    assert outcome.kept
    assert outcome.verdict.better > 0.95
    assert there.standings[outcome.key].mean == 1.0
    assert len(there.standings[outcome.key].fresh) == len(there.fresh)


def test_of_equals_the_cheaper_is_kept_and_a_dearer_one_is_not(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    keys = there.add([candidate(mood, 3, words=30), candidate(mood, 3)], "me")
    outcome = decided(there, keys)
    assert outcome.kept
    assert "cheaper" in outcome.verdict.reason
    assert outcome.verdict.fresh.n == len(there.fresh)
    assert not decided(there, keys[::-1]).kept
    assert not Promotion().decide(there, keys, sure=0.99).kept


def test_a_cheaper_one_that_is_worse_on_fresh_examples_is_not_kept(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    lost: set[str] = set()

    def worse(prompt: str) -> str:
        return "?" if "indeed" not in prompt and prompt.rsplit("day ", 1)[-1].split()[0] in lost else rule(prompt)

    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), test=())
    there = Arena(task, task.dev, Matrix(store, task.metric, rule_engine(worse).lm(), Meter()))
    keys = there.add([candidate(mood, 3, words=30), candidate(mood, 3)], "me")
    right = [each.text.split()[-1] for each in there.fresh if (int(each.text.split()[-1]) // 2) % 4 < 3]
    lost.update(right[:1])
    outcome = decided(there, keys)
    assert outcome.verdict.fresh.difference < 0
    assert not outcome.kept


def test_what_is_never_right_is_not_kept_for_its_tokens(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    keys = there.add([candidate(mood, 0, words=30), candidate(mood, 0)], "me")
    outcome = decided(there, keys)
    one, other = (Promotion().values(there, key)["tokens"] for key in reversed(keys))
    assert one < 0.9 * other
    assert not outcome.kept
    assert "only" in outcome.verdict.reason


@pytest.mark.parametrize(("sure", "kept"), [(0.5, True), (0.9, False)])
def test_what_could_not_be_confirmed_has_to_be_no_less_sure(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, *, sure: float, kept: bool
) -> None:
    there = arena(rule_engine, store, mood, mood_rows, calls=16)
    keys = there.add([candidate(mood, 2), candidate(mood, 3)], "me")
    there.buy_all(keys, 8)
    outcome = Promotion(Objectives(sure=0.5)).decide(there, keys, sure=sure)
    assert not there.standings[keys[1]].fresh
    assert 0.5 < outcome.verdict.better < 0.9
    assert outcome.kept is kept


def test_limits_are_kept_to_whatever_the_score(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    there = arena(rule_engine, store, mood, mood_rows)
    keys = there.add([candidate(mood, 1), candidate(mood, 4, words=60), candidate(mood, 3)], "me")
    outcome = decided(there, keys, Objectives(limits={"tokens": 40}))
    assert (outcome.key, outcome.kept) == (keys[2], True)


def test_a_gain_of_a_lucky_draw_is_not_taken_for_one(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    """Two equal programs: the rule for the end keeps the first one."""
    there = arena(rule_engine, store, mood, mood_rows)
    keys = there.add([candidate(mood, 3), candidate(mood, 3, words=1)], "me")
    there.run(Everything(), keys, calls=None)
    kept, verdict = Promotion().against_baseline(there, keys, keys[1])
    assert not kept
    assert verdict.better == pytest.approx(0.5, abs=0.05)


def test_what_the_budget_holds_of_a_proof_counts(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    there = arena(rule_engine, store, mood, mood_rows, calls=41)
    keys = there.add([candidate(mood, 2), candidate(mood, 3)], "me")
    there.buy(keys[0], 4)
    there.buy(keys[1], 24)
    Promotion().against_baseline(there, keys, keys[1])
    assert len(there.standings[keys[0]].cells) == 4 + (41 - 4 - 24)


def test_what_asks_the_same_runs_along_for_nothing(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), test=())
    engine = rule_engine(str, logprobs=lambda prompt, choice: float(choice.strip() == "glad"))
    meter = Meter()
    there = Arena(task, task.dev, Matrix(store, task.metric, engine.lm(), meter))
    declared = Candidate.declared(dspy.Predict(mood))
    formats = [Format(kind="compact", decoding=each) for each in ("scored", "calibrated", "constrained")]
    keys = there.add([declared.with_choice(format=each) for each in formats], "me")
    there.buy_all(keys[:1], 12)
    assert [len(there.standings[key].cells) for key in keys] == [12, 12, 0]
    assert meter.spent.bought == meter.spent.calls == 12
    there.buy_all(keys[:2], 20)
    assert meter.spent.bought == 20


def test_those_that_retrieve_otherwise_ask_otherwise(mood: Any) -> None:
    scored = Candidate.declared(dspy.Predict(mood)).with_choice(format=Format(kind="compact", decoding="scored"))
    calibrated = scored.with_choice(format=Format(kind="compact", decoding="calibrated"))
    one, two = (scored.with_retrieval(RetrievalChoice(search=Search(k=k)), path="retriever") for k in (1, 2))
    assert _asked(scored) == _asked(calibrated)
    assert len({_asked(each) for each in (scored, one, two)}) == 3
