"""The main job: the ladder is climbed, stopped and gone on with, and gives the same winner each time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import optuna
import pytest
import sqlalchemy as sa

import progspace as ps
from progspace.artifacts.compiled import Compiled
from progspace.benchmarks.fault_server import KEY, serving
from progspace.benchmarks.kills import Rule
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.races.registry import RACES
from progspace.programs import sentiment
from progspace.programs.candidate import Candidate
from progspace.store import schema
from progspace.store.database import Store, open_store


def rule(prompt: str, wanted: int = 2) -> str:
    """An LM that follows the compact format only, and tells moods right only after two examples."""
    if not prompt.endswith("Mood:"):
        return "what?"
    sunny = "sun" in prompt.rsplit("Text:", 1)[-1]
    shown = prompt.count("Mood: ") - prompt.count("Mood: glad or") >= wanted
    return "glad" if sunny or not shown else "sad"


def outcome(compiled: Compiled) -> tuple[Any, ...]:
    report = compiled.report
    return compiled.candidate.hash, [(r.choice, r.dev.score, r.test and r.test.score, r.calls) for r in report.rungs]


def test_each_rung_is_searched_measured_and_kept_only_if_it_pays(rule_engine: Any, store: Store, task: ps.Task) -> None:
    engine = rule_engine(partial(rule, wanted=8))
    compiled = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=1000), store=store)
    report = compiled.report
    assert [rung.name for rung in report.rungs] == ["baseline", "formats", "prompts"]
    baseline, formats, demonstrations = (rung.test for rung in report.rungs)
    assert baseline is not None
    assert formats is not None
    assert demonstrations is not None
    assert baseline.score == 0.0
    assert baseline.score < formats.score < demonstrations.score == 1.0
    assert report.winner.name == "prompts"
    assert "nothing is left to gain" in report.notes[-1]
    assert [score for _, score in report.curve] == [0.0, formats.score, 1.0]
    assert report.winner.versus_baseline is not None
    assert report.winner.versus_baseline.p_value < 0.001
    assert sum(rung.calls for rung in report.rungs) <= 1000
    assert compiled(text="rain at last").mood == "sad"
    assert task.program.demos == []
    assert task.unsealed == ("final report",)
    assert [point.tokens for point in compiled.front] == sorted(point.tokens for point in compiled.front)
    assert compiled.front[-1].score == 1.0
    told = str(report)
    assert f"prompts: {report.winner.choice.split()[0]}" in told
    assert f"Winner: {report.winner.choice}" in " ".join(told.split())
    assert "sealed test" in " ".join(told.split())


@pytest.mark.parametrize("calls", [150, 2000])
def test_the_rungs_add_up_to_all_that_was_asked(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, calls: int
) -> None:
    """A calibrated winner is fitted once more after the climb, on what it has not run on; that is told, too."""

    def logprob(prompt: str, choice: str) -> float:
        prefers = 2.5 if choice.strip() == "glad" else 0.0
        return prefers + (choice.strip() == ("glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"))

    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, test=(), metric=ps.metrics.choice("mood"))
    compiled = ps.compile(
        task, lm=rule_engine(lambda _: "glad", logprobs=logprob).lm(), budget=ps.Budget(calls=calls), store=store
    )
    (choice,) = compiled.candidate.predictors.values()
    assert choice.format is not None
    assert choice.format.decoding == "calibrated"
    assert sum(rung.calls for rung in compiled.report.rungs) == store.count("answers") <= calls
    climbed = store.read(sa.select(schema.search_events.c.value).where(schema.search_events.c.kind == "climbed"))
    before = sum(json.loads(row.value)["spent"]["calls"] for row in climbed)
    assert before < store.count("answers")


def test_nothing_better_leaves_the_program_as_declared(rule_engine: Any, store: Store, task: ps.Task) -> None:
    def chatty(prompt: str) -> str:
        if prompt.rstrip().endswith(("Mood:", "}")) or "JSON" in prompt:
            return "what?"
        return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('## text ##', 1)[-1] else 'sad'}"

    compiled = ps.compile(task, lm=rule_engine(chatty).lm(), budget=ps.Budget(calls=300), store=store)
    assert compiled.report.winner.name == "baseline"
    assert [rung.kept for rung in compiled.report.rungs[1:]] == [False] * len(compiled.report.rungs[1:])
    assert "nothing that was tried did better" in str(compiled.report)
    assert compiled(text="sun").mood == "glad"


def test_a_rung_that_no_calls_are_left_for_is_told_of(rule_engine: Any, store: Store, task: ps.Task) -> None:
    report = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=22), store=store).report
    assert [(rung.name, rung.calls) for rung in report.rungs] == [("baseline", 20)]
    assert "formats: not searched: too few calls are left to run a candidate (2)." in report.notes


def test_the_same_again_buys_nothing_and_gives_the_same(rule_engine: Any, store: Store, task: ps.Task) -> None:
    engine = rule_engine(rule)
    first = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=600), store=store)
    asked = len(engine.prompts)
    again = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=600), store=store)
    assert len(engine.prompts) == asked
    assert outcome(again) == outcome(first)
    assert sum(rung.bought for rung in again.report.rungs) == 0
    assert again.report.test_reads == 2
    assert "has now been read 2 times" in str(again.report)


def test_a_budget_of_money_holds_what_was_paid_before(rule_engine: Any, store: Store, task: ps.Task) -> None:
    class Dear(rule_engine):
        price = ps.Price(1000.0, 1000.0)

    runs = [ps.compile(task, lm=Dear(rule).lm(), budget=ps.Budget(usd=8.0), store=store, workers=1) for _ in range(2)]
    first, second = (sum(rung.bought for rung in run.report.rungs) for run in runs)
    assert first > 50
    assert second < first / 10  # what a call cost is known after it, so one or two more may be asked
    assert runs[0].candidate.hash == runs[1].candidate.hash


def test_stopped_anywhere_it_goes_on_to_the_same_end(rule_engine: Any, tmp_path: Path, task: ps.Task) -> None:
    with open_store(tmp_path / "whole.db") as store:
        engine = rule_engine(rule)
        whole = outcome(ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=300), store=store))
        total = len(engine.prompts)

    for stop_after in (5, total // 3, total - 20):
        calls: list[str] = []

        def stopping(prompt: str, calls: list[str] = calls, stop_after: int = stop_after) -> str:
            calls.append(prompt)
            if len(calls) == stop_after:
                raise KeyboardInterrupt
            return rule(prompt)

        with open_store(tmp_path / f"stopped-{stop_after}.db") as store:
            with pytest.raises(KeyboardInterrupt):
                ps.compile(task, lm=rule_engine(stopping).lm(), budget=ps.Budget(calls=300), store=store)
            before = store.count("answers")
            assert before > stop_after // 2  # what was under way when it was stopped is lost, nothing else
            rest = rule_engine(rule)
            assert outcome(ps.compile(task, lm=rest.lm(), budget=ps.Budget(calls=300), store=store)) == whole
            assert before + len(rest.prompts) == total


@pytest.mark.parametrize("calls", [1, 40, 90, 200])
def test_a_small_budget_gives_the_best_so_far(rule_engine: Any, store: Store, task: ps.Task, calls: int) -> None:
    budget = ps.Budget(calls=calls)
    if calls < 20:  # the program as declared, on its first examples
        with pytest.raises(ps.BudgetExceeded):
            ps.compile(task, lm=rule_engine(rule).lm(), budget=budget, store=store)
        return
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=budget, store=store)
    assert sum(rung.calls for rung in compiled.report.rungs) <= calls


def test_test_rows_limits_what_is_unsealed(rule_engine: Any, store: Store, task: ps.Task) -> None:
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=200), store=store, test_rows=7)
    assert compiled.report.sizes["test"] == 7


def chatty(prompt: str) -> str:
    """Right in the chat format, which is the declared one."""
    return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('## text ##', 1)[-1] else 'sad'}"


def test_where_there_is_nothing_to_gain_nothing_is_searched(rule_engine: Any, store: Store, task: ps.Task) -> None:
    compiled = ps.compile(task, lm=rule_engine(chatty).lm(), budget=ps.Budget(calls=500), store=store)
    assert [rung.name for rung in compiled.report.rungs] == ["baseline"]
    assert any("formats: not searched: no gain could be told from luck" in note for note in compiled.report.notes)
    assert compiled.report.baseline.calls <= len(task.dev)


def test_a_space_of_one_point_gives_the_program_as_declared(rule_engine: Any, store: Store, task: ps.Task) -> None:
    point = ps.Space(formats=[], instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=500), store=store, space=point)
    assert [rung.name for rung in compiled.report.rungs] == ["baseline"]


class Looks:
    """Runs the program on train, and proposes nothing."""

    name = "looks"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        state.matrix.fill(state.incumbent.candidate.apply(state.task.program), state.task.train[:10])
        return []


def test_what_is_asked_for_nothing_stands_in_the_bill(
    rule_engine: Any, store: Store, task: ps.Task, tmp_path: Path
) -> None:
    """Proposals took calls, and nothing came of them: the report counts what the engine was asked."""
    engine = rule_engine(rule)
    point = ps.Space(formats=[], instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(
        task, lm=engine.lm(), budget=ps.Budget(calls=500), store=store, space=point, proposers=[Looks()]
    )
    baseline, prompts = compiled.report.rungs
    assert (prompts.name, prompts.kept, prompts.candidates, prompts.reason) == (
        "prompts", False, 0, "nothing new was measured"
    )  # fmt: skip
    assert baseline.calls + prompts.calls + compiled.report.test_calls == len(engine.prompts)
    assert prompts.calls > 0
    assert "nothing new was measured" in str(compiled.report)
    compiled.report.to_html(tmp_path / "report.html")
    assert "nothing new was measured" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("own", [(), (Looks(),)], ids=["ours alone", "with one of the user's"])
def test_train_settles_what_dev_leaves_open_where_nothing_was_chosen_on_all_of_it(
    rule_engine: Any, store: Store, mood: Any, own: tuple[Looks, ...]
) -> None:
    """A proposer of the user's own may have chosen on any train example."""

    def somewhat_better(prompt: str) -> str:
        compact, text = prompt.endswith("Mood:"), prompt.rsplit("day ", 1)[-1]
        day, sunny = int(text.split()[0]), "sun" in prompt.rsplit(" on day", 1)[0][-5:]
        answer = "glad" if sunny == ((day // 2) % 5 < (4 if compact else 3)) else "sad"
        return answer if compact else f"[[ ## mood ## ]]\n{answer}"

    rows = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(80)]
    weather = ps.Task(program=dspy.Predict(mood), examples=rows, metric=ps.metrics.choice("mood"), test=())
    space = ps.Space(formats=["compact"], instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(
        weather, lm=rule_engine(somewhat_better).lm(), budget=ps.Budget(calls=2_000), store=store, space=space,
        proposers=own, objectives=ps.Objectives(sure=0.9999, tolerance=0),
    )  # fmt: skip
    assert (compiled.report.winner is compiled.report.baseline) is bool(own)
    told = "train examples on which no candidate was chosen"
    assert any(told in note for note in compiled.report.notes) is not bool(own)


def test_limits_hold_for_the_winner(rule_engine: Any, store: Store, task: ps.Task) -> None:
    def compiled(objectives: ps.Objectives) -> Compiled:
        return ps.compile(
            task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=600), store=store, objectives=objectives
        )

    free = compiled(ps.Objectives()).report.winner.dev
    assert free.tokens > 25
    assert free.score == 1.0
    bound = compiled(ps.Objectives(limits={"tokens": 25})).report.winner.dev
    assert bound.tokens <= 25
    assert 0 < bound.score < 1.0


def test_what_is_better_and_breaks_a_limit_is_not_told_as_no_better(
    rule_engine: Any, store: Store, task: ps.Task
) -> None:
    wanted = ps.Objectives(limits={"tokens": 5})
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=300), store=store, objectives=wanted)
    report = compiled.report
    assert report.winner is report.baseline
    assert max(rung.dev.score for rung in report.rungs) > report.baseline.dev.score
    assert "nothing that was tried did better on dev within the limits" in " ".join(str(report).split())


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"objectives": ps.Objectives(limits={"tokens": 60})}, "it keeps the limit of tokens"),
        ({"objectives": ps.Objectives(weights={"tokens": 0.001})}, "by the stated preference"),
        ({"space": ps.Space(max_prompt_tokens=60)}, "its prompts are short enough"),
    ],
    ids=["limits", "weights", "max_prompt_tokens"],
)
def test_a_declared_program_that_is_always_right_and_too_dear_is_searched(
    rule_engine: Any, store: Store, mood: Any, wanted: dict[str, Any], reason: str
) -> None:
    """With so few rows, no gain in quality could be told from luck."""

    def right(prompt: str) -> str:
        said = "glad" if "sun" in prompt.rsplit(" on day", 1)[0][-5:] else "sad"
        return said if prompt.endswith("Mood:") else f"[[ ## mood ## ]]\n{said}"

    rows = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(30)]
    task = ps.Task(program=dspy.Predict(mood), examples=rows, metric=ps.metrics.choice("mood"), test=())
    compiled = ps.compile(task, lm=rule_engine(right).lm(), budget=ps.Budget(calls=300), store=store, **wanted)
    baseline, formats, *_ = compiled.report.rungs
    assert baseline.dev.score == 1.0
    assert baseline.dev.tokens > 60 > compiled.report.winner.dev.tokens
    assert formats.kept
    assert reason in formats.reason
    assert any(note.startswith("The search went on all the same: ") for note in compiled.report.notes)


def test_the_winner_is_among_those_of_the_front_however_little_it_ran(
    rule_engine: Any, store: Store, mood: Any
) -> None:
    def better(prompt: str) -> str:
        compact, day = prompt.endswith("Mood:"), int(prompt.rsplit("day ", 1)[-1].split()[0])
        right = "glad" if "sun" in prompt.rsplit(" on day", 1)[0][-5:] else "sad"
        said = right if compact or (day // 2) % 20 else {"glad": "sad", "sad": "glad"}[right]
        return said if compact else f"[[ ## mood ## ]]\n{said}"

    rows = [
        {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(400)
    ]
    task = ps.Task(program=dspy.Predict(mood), examples=rows, metric=ps.metrics.choice("mood"), test=())
    space = ps.Space(formats=["compact"], instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(task, lm=rule_engine(better).lm(), budget=ps.Budget(calls=240), store=store, space=space)
    baseline, winner = compiled.report.rungs
    assert winner.kept
    assert 2 * winner.dev.n < baseline.dev.n
    (point,) = compiled.front
    assert point.candidate.hash == compiled.candidate.hash


def test_the_search_stands_in_the_store_as_a_study(rule_engine: Any, store: Store, task: ps.Task) -> None:
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=400), store=store)
    (study,) = optuna.get_all_study_summaries(store.url)
    assert study.n_trials >= sum(len(rung.tried) for rung in compiled.report.rungs[1:])
    assert study.best_trial is not None


def test_without_a_study_the_search_is_no_less(rule_engine: Any, store: Store, task: ps.Task) -> None:
    optuna.storages.RDBStorage(store.url)
    store.run("UPDATE alembic_version SET version_num = 'v99.0.0'")  # as a later Optuna would have it
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=200), store=store)
    assert compiled.report.winner is not compiled.report.baseline
    told = [note for note in compiled.report.notes if note.startswith("optuna-dashboard will not show this search: ")]
    assert len(told) == 1
    assert "no longer compatible" in told[0]


def test_on_postgresql_it_comes_to_the_same_end(
    rule_engine: Any, store: Store, task: ps.Task, postgres: Callable[[], str]
) -> None:
    here = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=400), store=store)
    engine, url = rule_engine(rule), postgres()
    for bought in (True, False):
        engine.prompts.clear()
        there = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=400), store=url)
        assert outcome(there) == outcome(here)
        assert bool(engine.prompts) is bought
    with open_store(url) as shared:
        study = optuna.load_study(study_name=None, storage=optuna.storages.RDBStorage(shared.url))
        assert study.trials


def test_every_race_compiles(rule_engine: Any, tmp_path: Path, task: ps.Task) -> None:
    for race in RACES:
        with open_store(tmp_path / f"{race}.db") as store:
            compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=500), store=store, race=race)
            assert sum(rung.calls for rung in compiled.report.rungs) <= 500
            assert compiled.report.winner.dev.score > 0.5, race


class Chain(dspy.Module):
    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.find = dspy.Predict("text -> weather")
        self.tell = dspy.Predict(mood)

    def forward(self, text: str) -> dspy.Prediction:
        return self.tell(text=self.find(text=text).weather)


def test_a_chain_is_compiled_predictor_by_predictor(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    def chained(prompt: str) -> str:
        if prompt.endswith("Weather:"):
            return "sun" if "sun" in prompt.rsplit("Text:", 1)[-1] else "rain"
        return rule(prompt)

    program = Chain(mood)
    task = ps.Task(program=program, examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"))
    compiled = ps.compile(task, lm=rule_engine(chained).lm(), budget=ps.Budget(calls=1500), store=store)
    assert set(compiled.candidate.predictors) == {"find", "tell"}
    test = compiled.report.winner.test
    assert test is not None
    assert test.score == 1.0
    assert all(set(shown) == {"text", "mood"} for shown in compiled.candidate.predictors["tell"].demonstrations or ())


MET: dict[str, int] = {}


class Remembering(Chain):
    def __init__(self, mood: Any) -> None:
        super().__init__(mood)
        self.met: dict[str, int] = {}

    def forward(self, text: str) -> dspy.Prediction:
        self.met[text] = MET[text] = MET.get(text, 0) + 1
        return super().forward(text)


def test_what_a_module_remembers_as_it_runs_costs_no_call(
    rule_engine: Any, store: Store, tmp_path: Path, mood: Any, mood_rows: Any
) -> None:
    """It is part of what the module is known by, so that its cells are scored again; answers are asked for once."""
    told = []
    with open_store(tmp_path / "other.db") as other:
        for program, kept in ((Chain(mood), store), (Remembering(mood), other), (Remembering(mood), other)):
            engine = rule_engine(rule)
            task = ps.Task(program=program, examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"))
            compiled = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=300), store=kept)
            told.append((outcome(compiled), len(engine.prompts)))
    assert MET
    assert told[1] == told[0]
    assert told[2] == (told[0][0], 0)


SCRIPT = """
import sys, progspace as ps
from progspace.benchmarks.fault_server import KEY
from progspace.programs import sentiment
ps.compile(
    sentiment.task(), lm=ps.lm("openai/rule", base_url=sys.argv[1], api_key=KEY), budget=ps.Budget(calls=150),
    store=sys.argv[2], test_rows=5,
)
"""


def test_killed_and_run_again_it_gives_the_same_winner_and_loses_nothing(tmp_path: Path) -> None:
    """A hundred and more of them: `benchmarks/kills.py`."""
    with serving(answer=Rule(), seconds=0.02) as server:
        lm = ps.lm("openai/rule", base_url=server.url, api_key=KEY)

        def run(store: Store) -> tuple[Any, ...]:
            budget = ps.Budget(calls=150)
            return outcome(ps.compile(sentiment.task(), lm=lm, budget=budget, store=store, test_rows=5))

        with open_store(tmp_path / "whole.db") as store:
            whole, answered = run(store), keys(store)
        server.bodies.clear()
        killed = subprocess.Popen([sys.executable, "-c", SCRIPT, server.url, str(tmp_path / "killed.db")])
        while len(server.bodies) < 60:
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
        killed.wait()
        with open_store(tmp_path / "killed.db") as store:
            kept = keys(store)
            assert 0 < len(kept) < len(answered)
            server.bodies.clear()
            assert run(store) == whole
            assert keys(store) == answered
            assert len(server.bodies) == len(answered - kept)


def keys(store: Store) -> set[str]:
    return {row.key for row in store.read(sa.select(schema.answers.c.key))}


def test_the_ready_made_task_gets_better_on_the_embedded_lm(searched: tuple[Compiled, Path], tmp_path: Path) -> None:
    compiled, _ = searched
    winner = compiled.report.winner
    assert winner.name != "baseline"
    assert winner.dev.score > compiled.report.baseline.dev.score + 0.15
    path = compiled.save(tmp_path / "sentiment.progspace.json")
    program = ps.load(path)
    reviews = ["A joy from start to finish.", "Dull, noisy and far too long."]
    with dspy.context(lm=None, adapter=None):
        loaded = [program(review=review).sentiment for review in reviews]
    assert loaded == [compiled(review=review).sentiment for review in reviews]
    assert set(loaded) <= {"positive", "negative"}


def test_the_same_search_again_on_the_embedded_lm_gives_the_same(
    searched: tuple[Compiled, Path], tmp_path: Path
) -> None:
    """With a quarter of its answers lost, which the LM gives anew."""
    compiled, folder = searched
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with open_store(tmp_path / "runs.db") as store:
        wanted = keys(store)
        store.run("DELETE FROM cells")
        store.run("DELETE FROM answers WHERE key < '4'")
        assert 0 < store.count("answers") < len(wanted)
        lm, budget = ps.lm("local", max_tokens=40), ps.Budget(calls=100)
        again = ps.compile(sentiment.task(), lm=lm, budget=budget, store=store, test_rows=10)
        assert outcome(again) == outcome(compiled)
        assert keys(store) == wanted
