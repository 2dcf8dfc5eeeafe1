"""The gate: three verdicts, what broke, and files that whatever an LM wrote does not break."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dspy
import pytest
from dspy.lm15 import ServerError

import progspace as ps
from progspace.evaluation.evaluation import compare_cells
from progspace.evaluation.gate import Gate, judge_comparison
from progspace.evaluation.gate_rendering import gate_junit, gate_markdown, gate_view
from progspace.evaluation.shown import as_text
from progspace.programs.examples import example_hash
from progspace.store.database import Store
from progspace.store.records import Cell

HOSTILE = "]]> <script>x</script> | `a` ![p](http://evil.example/p.png)\n\n# @all \x00\x1b[31m \ud800"


def judged(
    new: list[float | None],
    old: list[float | None],
    *,
    said: str = "sad",
    programs: tuple[str, str] = ("p", "q"),
    **how: Any,
) -> Gate:
    examples = [dspy.Example(text=f"{said} {i}", mood="glad").with_inputs("text") for i in range(len(new))]
    cells = [
        [
            Cell(program, example_hash(example), "m", score=score, output={"mood": said})
            for example, score in zip(examples, scores, strict=True)
        ]
        for program, scores in zip(programs, (new, old), strict=True)
    ]
    return judge_comparison(compare_cells(*cells, examples, names=("new", "old")), **how)


def test_three_verdicts() -> None:
    better = judged([1.0] * 95 + [0.0] * 5, [1.0] * 80 + [0.0] * 20)
    worse = judged([1.0] * 80 + [0.0] * 20, [1.0] * 95 + [0.0] * 5)
    unsure = judged([1.0, 0.0] + [1.0] * 28, [0.0, 1.0] + [1.0] * 28)
    assert [gate.verdict for gate in (better, worse, unsure)] == ["no worse", "worse", "cannot tell"]
    assert [gate.passes() for gate in (better, worse, unsure)] == [True, False, False]
    assert [gate.passes(cannot_tell=True) for gate in (better, worse, unsure)] == [True, False, True]
    assert (len(better.broken), len(better.mended), len(worse.broken)) == (0, 15, 15)
    assert [change.inputs for change in unsure.broken] == [{"text": "sad 1"}]
    assert "It would take about" in unsure.lines[2]
    assert judged([1.0] * 80 + [0.0] * 20, [1.0] * 82 + [0.0] * 18, margin=0.2).verdict == "no worse"


def test_one_program_is_no_worse_than_itself() -> None:
    assert judged([1.0, 0.0], [1.0, 0.0]).verdict == "cannot tell"
    assert judged([1.0, 0.0], [1.0, 0.0], programs=("p", "p")).verdict == "no worse"


def test_rows_without_an_answer_are_no_proof() -> None:
    """A program that the LM does not answer on the hard rows looks good on the others."""
    old: list[float | None] = [1.0] * 80 + [0.0] * 20
    told = judged([*([1.0] * 95), *([None] * 5)], old)
    assert (told.unanswered, told.verdict) == (5, "cannot tell")
    assert "on the 95 examples that both have a score on" in " ".join(as_text(gate_view(told)).split())
    assert judged([*([1.0] * 99), None], old).verdict == "no worse"


@pytest.mark.parametrize("passing", [True, False])
def test_junit_is_xml_whatever_an_lm_wrote(passing: bool) -> None:
    gate = judged([0.0] * 12 + [1.0] * 18, [1.0] * 30, said=HOSTILE, margin=0.9 if passing else 0.01)
    suite = ElementTree.fromstring(gate_junit(gate).encode())[0]  # noqa: S314 — our own
    assert suite.get("tests") == str(len(suite)) == "13"
    assert (suite.get("failures"), suite.get("skipped")) == (("0", "12") if passing else ("13", "0"))
    unsure = judged([1.0, 0.0], [0.0, 1.0])
    assert 'failures="2"' in gate_junit(unsure)
    assert 'failures="0" skipped="2"' in gate_junit(unsure, cannot_tell=True)


def test_markdown_and_text_show_what_an_lm_wrote_as_text() -> None:
    gate = judged([0.0] * 12 + [1.0] * 18, [1.0] * 30, said=HOSTILE)
    told = gate_markdown(gate)
    assert "<script>" not in told
    assert "❌ worse" in told
    # Markdown begins again after a blank line: what the LM wrote has to be inside one block.
    blocks = told.split("\n\n")
    assert all(block.startswith(("<h3>", "<table>", "<p>", "<details>")) for block in blocks)
    assert all("evil.example" in block for block in blocks if block.startswith("<details>"))
    text = as_text(gate_view(gate), width=80)
    assert "The first 10 of 12 that broke" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "The first 10 of 12 that broke" in str(gate)
    assert "<script>" not in gate._repr_html_()


def test_programs_are_run_and_judged(rule_engine: Any, mood: Any, store: Store, task: ps.Task) -> None:
    def rule(prompt: str) -> str:
        asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
        good = "Look" in prompt or "day 1" not in asked
        return f"[[ ## mood ## ]]\n{'glad' if ('sun' in asked) == good else 'sad'}\n\n[[ ## completed ## ]]"

    lm = rule_engine(rule).lm()
    better = dspy.Predict(mood.with_instructions("Look closely."))
    data = [{"text": f"sun on day {i}", "mood": "glad"} for i in range(10, 40)]
    told = ps.gate(task.program, better, task, lm=lm, store=store, data=data)
    assert (told.verdict, len(told.broken), told.test.n) == ("worse", 10, 30)
    assert told.broken[0].old == {"mood": "glad"}
    document = told.to_dict(rows=False)
    assert document["gate"]["verdict"] == "worse"
    assert document["gate"]["margin"] == 0.01
    assert ps.gate(better, task.program, task, lm=lm, store=store, data=data).verdict == "no worse"
    assert ps.gate(better, better.deepcopy(), task, lm=lm, store=store).why == "both are one program"
    with pytest.raises(ps.DataError, match="the margin is a loss"):
        ps.gate(better, task.program, task, lm=lm, store=store, margin=1.5)
    with pytest.raises(ps.DataError, match="the input is missing"):
        ps.gate(better, task.program, task, lm=lm, store=store, data=[{"txt": "sun"}])


def test_what_cannot_be_judged_is_refused_before_anything_is_asked(
    rule_engine: Any, mood: Any, store: Store, tmp_path: Path, task: ps.Task
) -> None:
    engine, new = rule_engine(lambda prompt: "sad"), dspy.Predict(mood.with_instructions("Look closely."))
    bad: list[dict[str, Any]] = [{"margin": 5}, {"margin": float("nan")}, {"alpha": 0.0}, {"alpha": 0.7}]
    for wrong in bad:
        with pytest.raises(ps.DataError, match=r"the margin is a loss|alpha is the error"):
            ps.gate(new, task.program, task, lm=engine.lm(), store=store, **wrong)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "sun", "mood": "glad"}\n{"text": "rain"}\n')
    with pytest.raises(ps.DataError, match=r"rows\.jsonl, row 2, field 'mood': the label is missing"):
        ps.gate(new, task.program, task, lm=engine.lm(), store=store, data=file)
    assert engine.prompts == []


class Broken(dspy.Module):
    def __init__(self, signature: Any, missing: str) -> None:
        super().__init__()
        self.predict, self.missing = dspy.Predict(signature), missing

    def forward(self, **inputs: Any) -> Any:
        raise KeyError(self.missing)


def test_a_program_that_fails_on_every_row_is_judged(rule_engine: Any, mood: Any, store: Store, task: ps.Task) -> None:
    def rule(prompt: str) -> str:
        asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
        return f"[[ ## mood ## ]]\n{'glad' if 'sun' in asked else 'sad'}\n\n[[ ## completed ## ]]"

    lm, broken = rule_engine(rule).lm(), Broken(mood, "tool")
    mended = ps.gate(task.program, broken, task, lm=lm, store=store)
    assert (mended.verdict, len(mended.mended)) == ("no worse", len(task.dev))
    broke = ps.gate(broken, task.program, task, lm=lm, store=store)
    assert (broke.verdict, len(broke.broken), broke.unanswered) == ("worse", len(task.dev), 0)
    assert broke.broken[0].said is not None
    assert "tool" in broke.broken[0].said
    both = r"new failed on each of \d+ examples: KeyError: 'tool'; old failed on each .*'key'"
    with pytest.raises(ps.ProgramError, match=both):
        ps.gate(broken, Broken(mood, "key"), task, lm=lm, store=store)
    with pytest.raises(ps.ProgramError, match="a failed on each"):
        ps.compare(broken, task.program, task, lm=lm, store=store)

    def down(prompt: str) -> str:
        raise ServerError("down")

    with pytest.raises(ps.LMError, match="answered on none"):
        ps.gate(broken, task.program, task, lm=rule_engine(down).lm("rule/down"), store=store)
