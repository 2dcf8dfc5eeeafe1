"""Proposers of demonstrations: one suite for all of them, and what each alone promises."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.lms.models import installed
from progspace.optimizers.proposers.base import Proposer, SearchState
from progspace.optimizers.proposers.demonstrations import (
    BootstrappedProposer,
    CoveringProposer,
    HardProposer,
    LabelledProposer,
    NearestProposer,
)
from progspace.optimizers.proposers.draws import balanced
from progspace.optimizers.proposers.formats import FormatProposer
from progspace.optimizers.proposers.pools import bootstrapped_demonstrations, label_pools, runs_on_train
from progspace.optimizers.space import Space
from progspace.optimizers.standing import Standing
from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate, unshown
from progspace.programs.formats import Format
from progspace.programs.nearest import Nearest
from progspace.store.database import Store
from progspace.store.records import Cell

needs_embedder = pytest.mark.skipif(
    not installed("all-minilm-l6-v2"), reason="the embedder is missing: progspace models install all-minilm-l6-v2"
)
ALL = [
    LabelledProposer(),
    BootstrappedProposer(),
    HardProposer(),
    pytest.param(CoveringProposer(), marks=needs_embedder),
    pytest.param(NearestProposer(), marks=needs_embedder),
]
DRAWING = [each for each in ALL if not isinstance(getattr(each, "values", [each])[0], NearestProposer)]


def named(proposer: Any) -> str:
    return str(getattr(proposer, "name", proposer))


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def often_right(prompt: str) -> str:
    """Knows the mood of the weather, but not on days that end with 0, 1 or 2."""
    asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
    day = asked.split("day ", 1)[-1].split()[0]
    return f"[[ ## mood ## ]]\n{'glad' if ('sun' in asked) != (day[-1] in '012') else 'sad'}"


def always_right(prompt: str) -> str:
    return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('[[ ## text ## ]]', 1)[-1] else 'sad'}"


def by_weather(prompt: str) -> str:
    """A chain's rule: finds the weather; takes every weather for a glad one."""
    asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
    if "## weather ##" in prompt:
        return f"[[ ## weather ## ]]\n{'fine' if 'sun' in asked else 'foul'}"
    return "[[ ## mood ## ]]\nglad"


class Chain(dspy.Module):
    """Finds the weather in a text, then the mood of the weather."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.find = dspy.Predict("text -> weather")
        self.tell = dspy.Predict(mood)

    def forward(self, text: str) -> dspy.Prediction:
        return self.tell(text=self.find(text=text).weather)


MakeState = Callable[..., SearchState]


@pytest.fixture
def make_state(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> MakeState:
    def make(
        *,
        program: dspy.Module | None = None,
        rule: Callable[[str], str] = often_right,
        calls: int | None = None,
        candidate: Candidate | None = None,
        cells: Sequence[Cell] = (),
        **space: Any,
    ) -> SearchState:
        task = ps.Task(
            program=program or dspy.Predict(mood), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood")
        )
        lm = rule_engine(rule).lm()
        meter = Meter(ps.Budget(calls=calls) if calls else None)
        incumbent = Standing(candidate or Candidate.declared(task.program), tuple(cells))
        return SearchState(
            task=task,
            space=Space(**space),
            matrix=Matrix(store, task.metric, lm, meter),
            writer=lm,
            incumbent=incumbent,
            standings=(incumbent,),
            seed=1,
        )

    return make


def shown(candidate: Candidate, name: str = "self") -> tuple[dict[str, Any], ...]:
    choice = candidate.predictors[name]
    assert (choice.nearest is None) != (choice.demonstrations is None)
    return choice.nearest.pool if choice.nearest else choice.demonstrations or ()


def train_rows(state: SearchState) -> list[dict[str, Any]]:
    return [example.toDict() for example in state.task.train]


@pytest.mark.parametrize("proposer", ALL, ids=named)
def test_every_proposer_shows_train_examples_and_changes_nothing_else(
    proposer: Proposer, make_state: MakeState
) -> None:
    state = make_state()
    kept = state.incumbent.candidate.with_choice(instruction="Look at the sky.", origin="chat, free")
    state = replace(state, incumbent=Standing(kept, ()))
    proposed = proposer.propose(state, 6)
    assert len(proposed) == 6
    for candidate in proposed:
        choice = candidate.predictors["self"]
        assert choice.instruction == "Look at the sky."
        assert all(each in train_rows(state) for each in shown(candidate))
        size = choice.nearest.count if choice.nearest else len(shown(candidate))
        assert size in state.space.demonstrations
        assert candidate.origin.startswith(f"chat, free; demonstrations: {size} {proposer.name}")
    assert len({len(shown(c)) if c.predictors["self"].demonstrations else c.predictors["self"].nearest.count
                for c in proposed}) > 1  # fmt: skip
    assert state.task.program.demos == []


@pytest.mark.parametrize("proposer", ALL, ids=named)
def test_the_same_state_gives_the_same_and_what_stands_is_not_proposed_again(
    proposer: Proposer, make_state: MakeState
) -> None:
    state = make_state()
    first = proposer.propose(state, 3)
    assert [each.hash for each in proposer.propose(make_state(), 3)] == [each.hash for each in first]
    measured = [Standing(each, (), order, proposer.name) for order, each in enumerate(first, 1)]
    state = replace(state, standings=(*state.standings, *measured))
    again = proposer.propose(state, 3)
    assert again
    assert not {each.hash for each in again} & {each.hash for each in first}
    assert not {each.origin for each in again} & {each.origin for each in first}
    assert proposer.propose(state, 0) == []


@pytest.mark.parametrize("proposer", DRAWING, ids=named)
def test_each_round_draws_others(proposer: Proposer, make_state: MakeState) -> None:
    state = make_state()
    rounds = [proposer.propose(replace(state, seed=seed), 4) for seed in (1, 2, 3)]
    assert len({candidate.hash for each in rounds for candidate in each}) >= 10


@pytest.mark.parametrize("proposer", DRAWING, ids=named)
def test_classes_are_shown_equally_often(proposer: Proposer, make_state: MakeState) -> None:
    for candidate in proposer.propose(make_state(demonstrations=[2, 4]), 8):
        counts = Counter(each["mood"] for each in shown(candidate))
        assert counts["glad"] == counts["sad"]


@pytest.mark.parametrize("proposer", ALL, ids=named)
def test_a_space_without_demonstrations_gets_none(proposer: Proposer, make_state: MakeState) -> None:
    state = make_state(demonstrations=[0])
    assert proposer.propose(state, 4) == []
    assert state.matrix.meter.spent.calls == 0


@pytest.mark.parametrize("proposer", ALL, ids=named)
def test_prompts_are_kept_as_short_as_the_space_wants(proposer: Proposer, make_state: MakeState) -> None:
    cell = Cell("p", "e", "m", score=1.0, calls=2, input_tokens=200)  # 100 tokens a prompt, without demonstrations
    state = make_state(demonstrations=[8], max_prompt_tokens=160, cells=[cell])
    proposed = proposer.propose(state, 2)
    assert proposed
    for candidate in proposed:
        choice = candidate.predictors["self"]
        size = choice.nearest.count if choice.nearest else len(shown(candidate))
        assert 1 <= size <= 5
        assert f" {size} " in candidate.origin
    assert proposer.propose(make_state(demonstrations=[8], max_prompt_tokens=101, cells=[cell]), 2) == []


def test_labelled_and_nearest_cost_no_call(make_state: MakeState) -> None:
    state = make_state()
    LabelledProposer().propose(state, 8)
    NearestProposer().propose(state, 8)
    CoveringProposer().propose(state, 8)
    assert state.matrix.meter.spent.calls == 0


def test_orders_are_part_of_a_draw(make_state: MakeState) -> None:
    proposed = LabelledProposer().propose(make_state(demonstrations=[8]), 24)
    orders = Counter(candidate.origin.split(", ")[-1].split(" (")[0] for candidate in proposed)
    assert set(orders) >= {"shuffled", "interleaved"}
    for candidate in proposed:
        if "interleaved" in candidate.origin:
            moods = [each["mood"] for each in shown(candidate)]
            assert all(one != other for one, other in pairwise(moods))


def test_bootstrapping_stops_when_it_has_enough_and_shows_only_what_was_solved(make_state: MakeState) -> None:
    state = make_state(demonstrations=[2, 4])
    proposed = BootstrappedProposer().propose(state, 8)
    assert state.matrix.meter.spent.calls == 16 < len(state.task.train)
    for candidate in proposed:
        assert all(each["text"].split("day ")[1][-1] not in "012" for each in shown(candidate))
    HardProposer().propose(state, 2)
    NearestProposer().propose(state, 2)
    assert state.matrix.meter.spent.calls == 16  # what one has looked at, another looks at for nothing


def test_what_stands_in_the_prompt_with_its_answer_is_no_proof_of_it(make_state: MakeState) -> None:
    state = make_state()
    rows = train_rows(state)[:5]
    program = state.incumbent.candidate.with_choice(demonstrations=tuple(rows)).apply(state.task.program)
    seen = [example.toDict() for runs in runs_on_train(program, state, most=99) for example, _ in runs]
    assert seen == train_rows(state)[5:]


def test_bootstrapping_takes_few_of_the_calls_that_are_left_and_nothing_of_hardly_any(make_state: MakeState) -> None:
    state = make_state(rule=lambda prompt: "[[ ## mood ## ]]\nnone", calls=400)
    assert BootstrappedProposer().propose(state, 2) == []  # nothing was solved
    assert state.matrix.meter.spent.calls <= 24 * 2  # DSPy's chat format asks again as JSON
    poor = make_state(rule=lambda prompt: "[[ ## mood ## ]]\nsad", calls=60)
    assert BootstrappedProposer().propose(poor, 2) == []
    assert poor.matrix.meter.spent.calls == 0


def test_a_teacher_of_the_users_own_shows_how_it_is_done(rule_engine: Any, make_state: MakeState) -> None:
    teacher = dspy.Predict(make_state().task.program.signature)
    knows = rule_engine(always_right)
    teacher.lm = knows.lm("rule/teacher")
    state = make_state(rule=lambda prompt: "[[ ## mood ## ]]\nnone")
    proposed = BootstrappedProposer(teacher).propose(state, 2)
    assert len(proposed) == 2
    assert state.matrix.meter.spent.calls == len(knows.prompts) == 16
    assert all(each in train_rows(state) for candidate in proposed for each in shown(candidate))


def test_hard_ones_come_before_others(make_state: MakeState) -> None:
    state = make_state(demonstrations=[2])
    hard = [row for row in train_rows(state) if row["text"].split("day ")[1][-1] in "012"]
    assert {row["mood"] for row in hard} == {"glad", "sad"}
    for candidate in HardProposer().propose(state, 6):
        assert all(each in hard for each in shown(candidate))


def test_where_nothing_is_hard_nothing_is_proposed(make_state: MakeState) -> None:
    state = make_state(rule=always_right)
    assert HardProposer().propose(state, 2) == []
    assert state.matrix.meter.spent.calls == len(state.task.train)


def test_chains_get_traces_where_there_are_no_labels(make_state: MakeState, mood: Any) -> None:
    state = make_state(program=Chain(mood), rule=by_weather)
    for candidate in LabelledProposer().propose(state, 2):
        assert candidate.predictors["find"].demonstrations is None
        assert shown(candidate, "tell")
    assert state.matrix.meter.spent.calls == 0
    proposed = BootstrappedProposer().propose(state, 3)
    assert proposed
    for candidate in proposed:
        assert all(each["weather"] == "fine" and "sun" in each["text"] for each in shown(candidate, "find"))
        assert set(map(str, shown(candidate, "tell"))) == {"{'text': 'fine', 'mood': 'glad'}"}
    narrowed = BootstrappedProposer().propose(make_state(program=Chain(mood), rule=by_weather, predictors=["find"]), 1)
    assert narrowed[0].predictors["tell"].demonstrations is None


@needs_embedder
def test_the_nearest_of_a_chain_are_labels_where_there_are_any(make_state: MakeState, mood: Any) -> None:
    state = make_state(program=Chain(mood), rule=by_weather, demonstrations=[2])
    (candidate,) = NearestProposer().propose(state, 1)
    assert candidate.predictors["find"].nearest is None
    tell = candidate.predictors["tell"].nearest
    assert isinstance(tell, Nearest)
    assert list(tell.pool) == train_rows(state)
    assert state.matrix.meter.spent.calls == 0  # the first step has no labels, and its traces would cost calls


@needs_embedder
def test_the_nearest_are_traces_where_nothing_is_labelled(make_state: MakeState, mood: Any) -> None:
    state = make_state(program=Chain(mood), rule=by_weather, demonstrations=[2], predictors=["find"])
    (candidate,) = NearestProposer().propose(state, 1)
    find = candidate.predictors["find"].nearest
    assert isinstance(find, Nearest)
    assert all(each["weather"] == "fine" for each in find.pool)
    assert state.matrix.meter.spent.calls > 0


class Advised(dspy.Module):
    """Gives advice on a text, and with it the mood."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.advise = dspy.Predict("text -> advice")
        self.tell = dspy.Predict(mood.insert(1, "advice", dspy.InputField()))

    def forward(self, text: str) -> dspy.Prediction:
        return self.tell(text=text, advice=self.advise(text=text).advice)


@pytest.mark.parametrize(
    "proposer", [LabelledProposer(), pytest.param(NearestProposer(), marks=needs_embedder)], ids=named
)
def test_a_late_step_is_shown_labels_without_what_earlier_steps_say(
    make_state: MakeState, mood: Any, proposer: Proposer
) -> None:
    state = make_state(program=Advised(mood), rule=by_weather, demonstrations=[2])
    (candidate,) = proposer.propose(state, 1)
    assert candidate.predictors["advise"].demonstrations is None
    tell = candidate.predictors["tell"]
    rows = tell.nearest.pool if tell.nearest else tell.demonstrations
    assert rows
    assert all(set(each) == {"text", "mood"} for each in rows)
    assert state.matrix.meter.spent.calls == 0
    # Of a row's own text the label is never shown, whatever the advice was.
    if tell.nearest:
        text = tell.nearest.pool[0]["text"]
        selected = tell.nearest.select(Advised(mood).tell.signature, {"text": text, "advice": "Dress warmly."})
        assert text not in [each["text"] for each in selected]


@needs_embedder
def test_covering_draws_spread_over_the_inputs(make_state: MakeState) -> None:
    """Four subjects, one of them rare: a covering set of four shows more of them than a draw by chance does."""
    subjects = {
        "The soup of restaurant {} was cold.": 40, "My card was declined at shop {}.": 40,
        "Our team lost match {} by a goal.": 40, "The violin concerto number {} is long.": 6,
    }  # fmt: skip
    rows = [{"text": text.format(n), "mood": "sad"} for text, total in subjects.items() for n in range(total)]
    state = make_state(demonstrations=[4])
    task = ps.Task(program=state.task.program, examples=rows, inputs=["text"], metric=state.task.metric)
    state = replace(state, task=task)
    assert any("violin" in example.text for example in task.train)

    def mean_subjects(proposer: Proposer) -> float:
        drawn = [shown(each) for seed in range(4) for each in proposer.propose(replace(state, seed=seed), 6)]
        return sum(len({each["text"].split()[1] for each in one}) for one in drawn) / len(drawn)

    assert mean_subjects(CoveringProposer()) > mean_subjects(LabelledProposer()) + 0.4


def test_without_an_embedder_what_needs_one_proposes_nothing(
    make_state: MakeState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path))
    assert NearestProposer().propose(make_state(), 4) == []
    assert CoveringProposer().propose(make_state(), 4) == []
    assert len(LabelledProposer().propose(make_state(), 4)) == 4


def test_who_reasons_is_shown_reasoning(make_state: MakeState, mood: Any) -> None:
    def reasons(prompt: str) -> str:
        return "[[ ## reasoning ## ]]\nThe sky says it.\n\n" + often_right(prompt)

    reasoned = Candidate.declared(dspy.Predict(mood)).with_choice(answering=Answering(reasoning=True))
    state = make_state(rule=reasons, candidate=reasoned)
    assert LabelledProposer().propose(state, 2) == []  # it would not be shown what has no reasoning
    proposed = BootstrappedProposer().propose(state, 2)
    assert proposed
    for candidate in proposed:
        assert all(each["reasoning"] == "The sky says it." for each in shown(candidate))
    # A choice that is scored is asked for in a call of its own, after the reasoning: labels do there.
    apart = reasoned.with_choice(format=Format(kind="compact", decoding="scored"))
    assert LabelledProposer().propose(make_state(candidate=apart), 2)


def test_pools_and_draws_are_balanced_reproducible_and_from_the_pool(mood: Any, mood_rows: Any) -> None:
    module = dspy.Predict(mood)
    rows = examples([row for row in mood_rows if row["mood"] == "glad"] + mood_rows[:6])
    pool = label_pools(module, rows)["self"]
    assert len(pool) == len(rows)
    for size in (2, 6):
        draws = [balanced(pool, module.signature, size, random.Random(seed)) for seed in (1, 2, 3)]
        assert balanced(pool, module.signature, size, random.Random(1)) == draws[0]
        assert len({str(drawn) for drawn in draws}) == 3
        for drawn in draws:
            counts = Counter(values["mood"] for values in drawn)
            assert counts["glad"] == counts["sad"] == size / 2
            assert all(values in [dict(row) for row in rows] for values in drawn)
    applied = Candidate.declared(module).with_choice(demonstrations=tuple(draws[0][:2])).apply(module)
    assert len(applied.module.demos) == 2
    assert module.demos == []


def test_pools_show_every_step_of_what_was_solved(make_state: MakeState, mood: Any) -> None:
    state = make_state(program=Chain(mood), rule=by_weather)
    pools = bootstrapped_demonstrations(state, 1)
    glad = [row for row in train_rows(state)[:16] if row["mood"] == "glad"]
    assert [values["text"] for values in pools["find"]] == [row["text"] for row in glad]  # only what was solved
    assert all(values == {"text": values["text"], "weather": "fine"} for values in pools["find"])
    assert pools["tell"] == [{"text": "fine", "mood": "glad"}] * len(glad)
    assert 0 < len(glad) < 16
    assert state.matrix.meter.spent.calls == 18  # sixteen first steps, and two different second ones
    assert label_pools(state.task.program, state.task.train, partial=True)["find"] == []


@pytest.mark.parametrize("scores", [False, True])
def test_each_format_is_also_shown_with_a_few_labelled_examples_of_its_own(
    make_state: MakeState, rule_engine: Any, store: Store, *, scores: bool
) -> None:
    state = make_state()
    lm = rule_engine(often_right, logprobs=(lambda prompt, choice: 0.0) if scores else None).lm()
    state = replace(state, matrix=Matrix(store, state.task.metric, lm, state.matrix.meter))
    proposed = FormatProposer().propose(state, 1000)
    assert state.matrix.meter.spent.calls == 0
    formats = len(state.space.formats_for([state.task.program.signature], lm))
    bare, first, second = proposed[: 2 * formats : 2], proposed[1 : 2 * formats : 2], proposed[2 * formats :]
    assert len(second) == (0 if scores else formats)  # where formats are few
    for other in (first, second or first):
        assert [each.predictors["self"].format for each in bare] == [each.predictors["self"].format for each in other]
        assert all(row in train_rows(state) for each in other for row in shown(each))
        assert all(Counter(row["mood"] for row in shown(each)) == {"glad": 2, "sad": 2} for each in other)
    assert not any(each.predictors["self"].demonstrations for each in bare)
    assert [each.origin for each in first] == [f"{each.origin}; demonstrations: 4 labelled" for each in bare]
    for one, other in zip(first, second, strict=False):
        assert other.origin == f"{one.origin} (draw 2)"
        assert shown(one) != shown(other)
    draws = {each.predictors["self"].format.label: shown(each) for each in first if each.predictors["self"].format}
    asking = {label.replace("calibrated", "scored") for label in draws}  # what asks the same shows the same
    assert len({str(each) for each in draws.values()}) == len(asking)
    assert not scores or draws["compact, scored"] == draws["compact, calibrated"]


@pytest.mark.parametrize("space", [{"demonstrations": (0,)}, {"selections": ("bootstrapped",)}], ids=str)
def test_formats_are_bare_where_the_space_shows_nothing_labelled(make_state: MakeState, space: dict[str, Any]) -> None:
    assert not any(
        each.predictors["self"].demonstrations for each in FormatProposer().propose(make_state(**space), 1000)
    )


def test_formats_of_a_chain_are_bare_and_shown_then_one_by_one(make_state: MakeState, mood: Any) -> None:
    state = make_state(program=Chain(mood), rule=by_weather)
    proposed = FormatProposer().propose(state, 1000)
    formats = len(state.space.formats_for([each.signature for each in Chain(mood).predictors()], state.matrix.lm))
    shows = [bool(each.predictors["tell"].demonstrations) for each in proposed]
    assert shows[: 2 * formats] == [False, True] * formats
    assert all(shows[2 * formats : 3 * formats])
    assert not any(shows[3 * formats :])
    assert all(len({str(c.format) for c in each.predictors.values()}) == 1 for each in proposed[: 2 * formats])


def test_where_examples_stand_in_the_prompt_already_formats_leave_them(make_state: MakeState, mood: Any) -> None:
    own = ({"text": "sun on day 1000", "mood": "glad"},)
    state = make_state(candidate=Candidate.declared(dspy.Predict(mood)).with_choice(demonstrations=own))
    assert all(shown(each) == own for each in FormatProposer().propose(state, 1000))


@pytest.mark.parametrize("name", ["question", "query"])
def test_what_a_step_of_a_chain_shows_of_an_example_counts_as_shown(name: str) -> None:
    class Steps(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look, self.answer = dspy.Predict("context -> gist"), dspy.Predict(f"{name} -> label")

    rows = [
        dspy.Example(context=f"c{n}", question=f"q{n}", label=str(n)).with_inputs("context", "question")
        for n in range(4)
    ]
    shown = tuple({name: row.question, "label": row.label} for row in rows[:3])
    chosen = Candidate.declared(Steps()).with_choice(predictor="answer", demonstrations=shown)
    assert unshown(rows, chosen.apply(Steps())) == rows[3:]
