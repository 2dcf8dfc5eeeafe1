"""What a notebook and a slide show of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import progspace as ps
from progspace.benchmarks.page import _findings
from progspace.evaluation.evaluation import compare_cells, evaluate_cells
from progspace.evaluation.report import Report
from progspace.evaluation.shown import as_text
from progspace.inspection import models_view
from progspace.store.records import Cell

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def report() -> Report:
    sizes = {"train": 9, "dev": 9, "test": 9}
    return Report.model_validate(_findings(HOSTILE, {0: 0.5, 1: 0.9}, 1, 100, sizes).to_dict())


def test_a_notebook_shows_tables_and_runs_nothing_of_them(report: Report) -> None:
    import dspy

    examples = [dspy.Example(text=HOSTILE, label="a").with_inputs("text") for _ in range(4)]
    cells = [Cell("p", str(index), "m", score=float(index > 1), output={"label": HOSTILE}) for index in range(4)]
    worse = [Cell("q", str(index), "m", score=0.0, output={"label": HOSTILE}) for index in range(4)]
    evaluation, comparison = evaluate_cells(cells, examples), compare_cells(cells, worse, examples)
    for shown in (report, evaluation, comparison):
        told = shown._repr_html_()
        assert told.startswith("<pre>")
        assert "<script" not in told
    assert "50.0 %" in evaluation._repr_html_()
    assert "+50.0 points" in comparison._repr_html_()
    assert "90.0 %" in report._repr_html_()
    assert "50.0 %" in str(evaluation)
    assert f"text: {HOSTILE}" in str(evaluation)
    assert "a − b: +50.0 points" in str(comparison)
    assert "Row(" not in f"{evaluation}{comparison}"


@pytest.mark.parametrize("width", [110, 80, 60, 40, 20])
def test_a_narrow_terminal_loses_no_figure(report: Report, width: int) -> None:
    """Cut off without a mark, 123 calls were 1."""

    def digits(width: int) -> list[str]:
        table = as_text(report.view(), width).split("Winner")[0].rpartition("─")[2]
        return sorted(filter(str.isdigit, table))  # one that is broken goes on in the next line

    assert len(digits(400)) > 30
    assert digits(width) == digits(400)


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_a_narrow_terminal_loses_no_part_of_a_name(width: int) -> None:
    """Of two files in one folder, both were "/some/folder/of/mine/th…"."""
    import dspy

    names = ("/some/folder/of/mine/that/is/long/old.progspace.json", "/some/folder/of/mine/that/is/long/new.json")
    cells = [Cell("p", str(index), "m", score=float(index % 3 > 0), input_tokens=12_345) for index in range(40)]
    examples = [dspy.Example(text="x").with_inputs("text") for _ in cells]
    for view in (compare_cells(cells, cells[::-1], examples, names=names).view(), models_view()):
        letters = [sorted(filter(str.isalnum, as_text(view, each))) for each in (width, 400)]
        assert letters[0] == letters[1]


def test_names_in_brackets_are_shown_as_they_are() -> None:
    """Taken for markup, "[v2]" vanished, and "[/x]" raised."""
    import dspy

    name = "runs[v2]/[/x].json"
    sizes = {"train": 9, "dev": 9, "test": 9}
    findings = _findings(name, {0: 0.5, 1: 0.9}, 1, 100, sizes)
    rungs = tuple(rung.model_copy(update={"choice": name}) for rung in findings.rungs)
    examples = [dspy.Example(text="x").with_inputs("text")]
    side = evaluate_cells([Cell("p", "0", "m", score=0.0)], examples, name=name)
    both = compare_cells(
        [Cell("p", "0", "m", score=0.0)], [Cell("q", "0", "m", score=1.0)], examples, names=(name, "b")
    )
    report = Report.model_validate(findings.model_copy(update={"rungs": rungs}).to_dict())
    for shown in (report, side, both):
        assert name in as_text(shown.view(), 200).split("─")[-1].split("Winner")[0]


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_by_one_call(report: Report, tmp_path: Path, name: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'progspace[plots]'")
    report.plot(tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(begins)
    assert len(written) > 5_000


def test_another_kind_of_picture_is_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ps.DataError, match=r"\.png, \.svg, \.pdf"):
        report.plot(tmp_path / "a.gif")


def test_progress_says_what_is_left_of_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    from progspace.lms.budget import Spent
    from progspace.progress import CompileProgress

    progress = CompileProgress()
    spent = Spent(calls=100, bought=100, input_tokens=900, output_tokens=100, usd=0.25, seconds=50)
    progress.rung("prompts")
    progress.spent(spent, ps.Budget(calls=300, tokens=5000, usd=1.0))
    progress.round(10, 4, None)
    told = " ".join(capsys.readouterr().err.split())
    assert "200 calls left, 100 s at most at this pace, 4,000 tokens left, 0.75 USD left" in told
    progress.spent(spent, ps.Budget(minutes=2))
    progress.round(10, 4, None)
    assert "70 s left" in " ".join(capsys.readouterr().err.split())
    progress.spent(replace(spent, recalled_usd=0.5), ps.Budget(usd=1.0))  # after it was stopped
    progress.round(10, 4, None)
    assert "0.25 USD left" in " ".join(capsys.readouterr().err.split())


def test_progress_takes_no_name_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from progspace.lms.training.jobs import Event
    from progspace.progress import CompileProgress

    with CompileProgress(Console(stderr=True, force_terminal=True, width=100)) as bar:
        bar.rung("[/x] on a terminal")
    progress = CompileProgress()
    progress.rung("prompts [v2] [/x]")
    progress.ask("Train [/x]?", "no terminal")
    progress._told = 0.0
    progress.training(Event("training [/x]"))
    told = capsys.readouterr().err
    assert "prompts [v2] [/x]" in told
    assert "Train [/x]? no terminal" in told
    assert "training [/x]" in told
