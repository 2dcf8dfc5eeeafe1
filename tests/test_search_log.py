"""How a search ran: what its report page shows is what its report says, read from the cells."""

from __future__ import annotations

from typing import Any

import pytest

import progspace as ps
from progspace.evaluation.page.reading import read_content
from progspace.store.database import Store
from progspace.store.searches import searches
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
