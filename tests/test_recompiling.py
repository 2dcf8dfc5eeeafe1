"""The ratchet: a program gives way only to one that is no worse on rows that no search has seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import progspace as ps
from progspace.artifacts.artifact import read_artifact, write_artifact
from progspace.programs.formats import Format
from progspace.store.database import Store
from progspace.store.traces import Trace, put_feedback, put_traces

NEW = [
    {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(200, 400)
]


def rule(prompt: str) -> str:
    """Reads the compact format; on the later days only where it is told to look closely."""
    asked = prompt.rsplit("Text:", 1)[-1]
    if not prompt.endswith("Mood:"):
        return "what?"
    return "glad" if "sun" in asked and ("day" not in asked or "closely" in prompt or "day 1" in asked) else "sad"


def knowing(prompt: str) -> str:
    asked = prompt.rsplit("Text:", 1)[-1]
    return ("glad" if "sun" in asked else "sad") if prompt.endswith("Mood:") else "what?"


@pytest.fixture
def path(make_artifact: Callable[..., Path], task: ps.Task, tmp_path: Path) -> Callable[..., Path]:
    return lambda **choice: make_artifact(tmp_path / "mood.progspace.json", task.program, **choice)


def test_a_better_program_takes_the_place(path: Any, task: ps.Task, rule_engine: Any, store: Store) -> None:
    file = path()  # as declared: it answers nothing
    done = ps.recompile(file, task, NEW, lm=rule_engine(knowing).lm(), store=store, budget=ps.Budget(calls=400))
    assert done.replaced, done.why
    assert done.why.startswith("no worse, and better on")
    assert read_artifact(file).candidate.hash == done.compiled.candidate.hash
    assert done.joined + done.kept_back == len(NEW)
    assert done.gate.test.n == done.kept_back
    # What the gate was read on was in no split.
    sizes = done.compiled.report.sizes
    assert sum(sizes.values()) == 100 + done.joined
    # Once more, with what is in use now: there is nothing better.
    before = file.read_bytes()
    again = ps.recompile(file, task, NEW, lm=rule_engine(knowing).lm(), store=store, budget=ps.Budget(calls=400))
    assert (again.replaced, file.read_bytes()) == (False, before)


def test_a_planted_regression_is_refused(path: Any, task: ps.Task, rule_engine: Any, store: Store) -> None:
    """The budget ends before the search meets anything as good: what it has by then is worse on the later days."""
    file = path(instruction="Look closely.", format=Format(kind="compact", decoding="free"))
    before = file.read_bytes()
    done = ps.recompile(
        file, task, NEW, lm=rule_engine(rule).lm(), store=store, budget=ps.Budget(calls=25), margin=0.05
    )
    assert (done.replaced, done.why, done.gate.verdict) == (False, "worse", "worse")
    assert file.read_bytes() == before


def test_the_old_program_is_a_candidate(path: Any, task: ps.Task, rule_engine: Any, store: Store) -> None:
    file = path(instruction="Look closely.", format=Format(kind="compact", decoding="free"))
    done = ps.recompile(file, task, NEW, lm=rule_engine(rule).lm(), store=store, budget=ps.Budget(calls=600))
    tried = [each.proposer for rung in done.compiled.report.rungs for each in rung.tried]
    assert "yesterday's" in tried
    assert done.gate.test.difference >= 0, done.gate.lines


def leave(store: Store, rows: list[dict[str, str]], *, name: str = "mood", version: str = "v") -> None:
    """Leaves a trace of each row, answered `sad`, with the right label as feedback."""
    for row in rows:
        trace = Trace(
            f"{name}{row['text']}", name, version, 1.0, 0.1, inputs={"text": row["text"]}, outputs={"mood": "sad"},
            whole=True,
        )  # fmt: skip
        put_traces(store, [trace])
        put_feedback(store, trace.id, labels={"mood": row["mood"]})


def test_traces_are_learnt_from_and_judge_once(
    path: Any, task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, lm = path(), rule_engine(knowing).lm()
    with pytest.raises(ps.DataError, match="nothing to learn from"):
        ps.recompile(file, task, lm=lm, store=store)
    leave(store, NEW[:60])
    leave(store, NEW[60:69], name="another program's")
    with pytest.raises(ps.DataError, match=r"9 rows are new to the task.* 9 of 9 traces gave a row"):
        ps.recompile(file, task, lm=lm, traces=store, name="another program's", store=store)
    leave(store, NEW[80:90], name="elsewhere", version=ps.Registry().add(file, tags=["prod"]).hash)
    done = ps.recompile(file, task, lm=lm, traces=store, store=store, budget=ps.Budget(calls=400))
    assert done.replaced, done.why
    assert done.traces is not None
    assert done.traces.line == "70 of 70 traces gave a row."
    assert (done.joined + done.kept_back, done.seen) == (70, 0)
    # What judged does not judge again, not even another program: it joins, and there is nothing fresh to judge by.
    ps.Registry().add(file, tags=["prod"])
    with pytest.raises(ps.DataError, match=f"no row to judge by: .* all {done.kept_back} .* 70 of 70 traces"):
        ps.recompile(file, task, lm=lm, traces=store, store=store)
    leave(store, NEW[100:])
    again = ps.recompile(file, task, lm=lm, traces=store, store=store, budget=ps.Budget(calls=400))
    assert (again.replaced, again.joined + again.kept_back, again.seen) == (False, 170, done.kept_back)


@pytest.mark.parametrize("wrong", [{"margin": 5}, {"margin": 0.0}, {"alpha": 1.0}])
def test_a_margin_that_means_nothing_costs_nothing(
    path: Any, task: ps.Task, rule_engine: Any, store: Store, wrong: dict[str, float]
) -> None:
    """Rows of traces judge once: they are not to be seen for nothing."""
    engine = rule_engine(knowing)
    leave(store, NEW[:60])
    with pytest.raises(ps.DataError, match=r"the margin is a loss|alpha is the error"):
        ps.recompile(path(), task, lm=engine.lm(), traces=store, store=store, **wrong)
    assert (engine.prompts, store.count("cells")) == ([], 0)


@pytest.mark.parametrize("row", [7, 8, 9])
def test_a_row_without_its_label_is_named_before_anything_is_asked(
    path: Any, task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path, row: int
) -> None:
    engine, file = rule_engine(knowing), tmp_path / "new.jsonl"
    rows = [each if number != row else {"text": each["text"]} for number, each in enumerate(NEW, 1)]
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(ps.DataError, match=rf"new\.jsonl, row {row}, field 'mood': the label is missing"):
        ps.recompile(path(), task, file, lm=engine.lm(), store=store)
    assert engine.prompts == []


def test_a_planted_regression_is_refused_on_traces(path: Any, task: ps.Task, rule_engine: Any, store: Store) -> None:
    file = path(instruction="Look closely.", format=Format(kind="compact", decoding="free"))
    before = file.read_bytes()
    leave(store, NEW)
    done = ps.recompile(
        file, task, lm=rule_engine(rule).lm(), traces=store, store=store, budget=ps.Budget(calls=25), margin=0.05
    )
    assert (done.replaced, done.why, done.gate.verdict) == (False, "worse", "worse")
    assert file.read_bytes() == before


def test_the_old_program_runs_on_the_lms_of_the_space(path: Any, task: ps.Task, rule_engine: Any, store: Store) -> None:
    """A file does not say where prompts go, and an LM of one's own is made from no name."""
    big = {"model": "openai/big", "settings": {"api_base": "http://gpu:8000/v1"}}
    file = path(lm="big", format=Format(kind="compact", decoding="free"))
    write_artifact(read_artifact(file).model_copy(update={"lms": {"big": big}}), file)
    small, engine = rule_engine(rule), rule_engine(knowing)
    done = ps.recompile(
        file, task, NEW, lm=small.lm(), space=ps.Space(lms={"big": engine.lm("rule/big")}), store=store,
        budget=ps.Budget(calls=600),
    )  # fmt: skip
    assert done.gate.comparison.b.score == 1
    tried = [each.proposer for rung in done.compiled.report.rungs for each in rung.tried]
    assert "yesterday's" in tried


def test_a_tag_comes_to_name_the_new_version(
    path: Any, task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry, lm, budget = ps.Registry(), rule_engine(knowing).lm(), ps.Budget(calls=150)
    old = registry.add(path(), tags=["prod", "first"])
    before = registry.path("prod").read_bytes()
    with pytest.raises(ps.ArtifactError, match="there is no tag"):
        ps.recompile(f"@{old.hash[:8]}", task, NEW, lm=lm, store=store, budget=budget)
    done = ps.recompile("@prod", task, NEW, lm=lm, store=store, budget=budget)
    assert done.replaced, done.why
    assert read_artifact(registry.path("prod")).candidate.hash == done.compiled.candidate.hash
    assert registry.lineage("prod") == [registry.version("prod"), old]
    assert registry.path("first").read_bytes() == before
    # With what it names now there is nothing better: it stays.
    assert not ps.recompile("@prod", task, NEW, lm=lm, store=store, budget=budget).replaced
    assert len(registry.history("prod")) == 2
    assert registry.rollback("prod") == old


def test_a_version_is_not_written_over(path: Any, task: ps.Task, rule_engine: Any, tmp_path: Path) -> None:
    registry, engine = ps.Registry(tmp_path / "own"), rule_engine(knowing)
    registry.add(path(), tags=["prod"])
    link = tmp_path / "in use.json"
    link.symlink_to(registry.path("prod"))
    for reference in (registry.path("prod"), str(registry.path("prod")), link):
        with pytest.raises(ps.ArtifactError, match=r"never changes: .* ps\.recompile\('@TAG'"):
            ps.recompile(reference, task, NEW, lm=engine.lm(), store=":memory:")
    assert engine.prompts == []
    assert registry.path("prod").exists()


def test_a_link_stays_and_what_it_points_to_is_replaced(
    path: Any, task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path
) -> None:
    link, file = tmp_path / "in use.json", path()
    link.symlink_to(file.name)
    done = ps.recompile(link, task, NEW, lm=rule_engine(knowing).lm(), store=store, budget=ps.Budget(calls=150))
    assert (done.replaced, link.is_symlink()) == (True, True)
    assert read_artifact(file).candidate.hash == done.compiled.candidate.hash


def test_too_few_or_known_rows_are_refused(path: Any, task: ps.Task, rule_engine: Any, mood_rows: Any) -> None:
    lm = rule_engine(rule).lm()
    for data in (NEW[:9], mood_rows, [*mood_rows, *NEW[:5]]):
        with pytest.raises(ps.DataError, match="rows are new to the task"):
            ps.recompile(path(), task, data, lm=lm, store=":memory:")
    with pytest.raises(ps.ArtifactError, match="cannot be read"):
        ps.recompile("none.json", task, NEW, lm=lm, store=":memory:")


def test_a_grown_task_moves_no_row(task: ps.Task) -> None:
    rows = task.read(NEW)
    grown = task.grown(rows)
    for part in ("train", "dev", "test"):
        before, after = ({each.text for each in getattr(one.splits, part)} for one in (task, grown))
        assert before < after
    own = ps.Task(task.program, [*task.train, *task.dev], metric=task.metric, test=list(task.splits.test))
    assert {each.text for each in own.grown(rows).splits.test} == {each.text for each in task.splits.test}
    none = ps.Task(task.program, [*task.train, *task.dev], metric=task.metric, test=())
    assert none.grown(rows).test_size == 0
