"""How a search ran: what its report page shows is what its report says, read from the cells."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
import sqlalchemy as sa
from dspy.lm15 import AuthError

import progspace as ps
from progspace.evaluation.numbers import dollars
from progspace.evaluation.page.reading import content_of, read_content
from progspace.store import schema
from progspace.store.database import Store
from progspace.store.searches import Event, add_events, events, searches
from progspace.tests.test_compile import rule


def test_a_search_is_written_down_and_read_from_its_cells(rule_engine: Any, store: Store, task: ps.Task) -> None:
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=300), store=store)
    (search,) = searches(store)
    content = read_content(store, search)
    report, known = compiled.report, {each.number: each for each in content.candidates}
    assert content.state == "finished"
    assert [rung.name for rung in content.rungs] == [rung.name for rung in report.rungs]
    for rung, told in zip(content.rungs, report.rungs, strict=True):
        assert rung.best is not None
        best = known[rung.best]
        assert best.choice == told.choice
        assert (rung.best == content.winner) == (told is report.winner)
        if told is not report.winner and best.n > told.dev.n:  # a later rung ran it again, and bought more
            continue
        assert best.n == told.dev.n
        assert best.score == pytest.approx(told.dev.score)
        assert best.tokens == pytest.approx(told.dev.tokens)
    assert {each.choice for each in content.candidates if each.front} == {point.choice for point in report.front}
    scored = [score for score in content.cells[str(content.winner)].scores if score is not None]
    assert sum(scored) / len(scored) == pytest.approx(report.winner.dev.score)
    dropped = [each for each in content.candidates if each.dropped]
    assert dropped
    assert all(each.dropped_after is not None and each.dropped_after <= content.calls for each in dropped)
    calls = [step.calls for each in content.candidates for step in each.steps]
    assert max(calls) <= sum(rung.calls for rung in report.rungs)
    assert "⟦text⟧" in (known[0].prompts or {})["self"]
    # What the page knows of examples is dev's; the test stays sealed.
    assert {each.inputs["text"] for each in content.examples} == {example.text for example in task.dev}
    told = content.model_dump_json()
    assert not [each for each in task.unseal_test("check") if f'"{each.text}"' in told]


class Notes(dspy.Module):
    """Keeps what it saw: it is another program after each run."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.tell = dspy.Predict(mood)

    def forward(self, text: str) -> Any:
        self.seen.append(text)
        return self.tell(text=text)


@pytest.mark.parametrize("repeats", [1, 2])
def test_rows_of_a_program_that_changes_or_of_one_repeat_are_read_as_well(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, repeats: int
) -> None:
    failed: set[str] = set()

    def failing(prompt: str) -> str:
        day = prompt.rsplit("day ", 1)[-1].split()[0]
        if repeats == 2 and day.endswith("3") and prompt in failed:
            raise AuthError("no such key")
        failed.add(prompt)
        return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('## text ##', 1)[-1] else 'sad'}"

    program = Notes(mood) if repeats == 1 else dspy.Predict(mood)
    task = ps.Task(program=program, examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"), test=())
    lm = rule_engine(failing).lm(temperature=0.0 if repeats == 1 else 1.0)
    report = ps.compile(task, lm=lm, budget=ps.Budget(calls=150), store=store, repeats=repeats).report
    content = read_content(store, searches(store)[0])
    known = {each.number: each for each in content.candidates}
    for rung, told in zip(content.rungs, report.rungs, strict=True):
        assert rung.best is not None
        assert known[rung.best].n >= told.dev.n > 0


def test_what_rungs_cost_adds_up(rule_engine: Any, store: Store, task: ps.Task) -> None:
    engine = rule_engine(rule)
    engine.price = ps.Price(10.0, 30.0)
    report = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=300, usd=1.0), store=store).report
    (search,) = searches(store)
    content = read_content(store, search)
    assert sum(rung.usd for rung in content.rungs) == pytest.approx(content.usd)
    assert content.usd
    assert content_of(report).usd == pytest.approx(content.usd)
    assert content.test_usd == content_of(report).test_usd == report.test_usd > 0
    answers = store.read(sa.select(schema.answers.c.input_tokens, schema.answers.c.output_tokens))
    cost = sum(engine.price.of(*tokens) for tokens in answers)
    assert content.usd + content.test_usd == pytest.approx(cost)
    for paid in (content.usd, report.test_usd):
        assert f"{dollars(paid)} USD" in str(report)
    # The baseline may run on more after its rung was climbed: what counts is what stands in the end.
    told = events(store, search.id)
    findings = report.to_dict()
    for place, rung in enumerate(findings["rungs"]):
        rung["usd"] = 7.0 + place
    add_events(store, search.id, [Event("finished", {**told[-1].value, "findings": findings})], first=len(told))
    assert [rung.usd for rung in read_content(store, search).rungs] == [rung["usd"] for rung in findings["rungs"]]


def test_a_search_that_was_stopped_is_read_as_far_as_it_came(rule_engine: Any, store: Store, task: ps.Task) -> None:
    engine = rule_engine(rule)

    def stopping(prompt: str) -> str:
        if len(engine.prompts) > 100:
            raise KeyboardInterrupt
        return rule(prompt)

    engine.rule = stopping
    with pytest.raises(KeyboardInterrupt):
        ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=300), store=store)
    (search,) = searches(store)
    content = read_content(store, search)
    assert content.state != "finished"
    baseline = content.rungs[0]
    assert (baseline.name, baseline.kept) == ("baseline", True)
    assert baseline.calls > 0
    assert baseline.dev is not None
