"""Results are shown: losses as plainly as wins, in a terminal, as JSON and on a page in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from typer.testing import CliRunner

import progspace as ps
from progspace.benchmarks.__main__ import SCRIPTS
from progspace.benchmarks.peers import PROGSPACE
from progspace.benchmarks.results import RESULTS, append_results, read_runs
from progspace.benchmarks.show import main
from progspace.benchmarks.shown.suites import suite
from progspace.cli import app
from progspace.tests.tabs import HOSTILE, tab_of

PERTURBED = {"typos": -0.1}


def peer(optimizer: str, score: float, *, task: str = "a", budget: int = 100) -> dict[str, Any]:
    format_ = "own" if optimizer == PROGSPACE else "best"
    return {
        "task": task, "optimizer": optimizer, "format": format_, "budget": budget, "seed": 0, "score": score,
        "low": score - 0.1, "high": score + 0.1, "calls": budget, "fell_back": False,
    }  # fmt: skip


def cards(task: str, declared: float, compiled: float, p: float) -> list[dict[str, Any]]:
    both = {
        "task": task, "seed": 0, "n_test": 100, "input_tokens": 5000, "output_tokens": 100, "seconds": 0.2,
        "slices": {task: 0.5}, "worst": 0.4, "n_worst": 30, "perturbed": PERTURBED,
    }  # fmt: skip
    gain = compiled - declared
    return [
        {**both, "optimizer": name, "score": score, "low": max(0.0, score - 0.1), "high": min(1.0, score + 0.1), **more}
        for name, score, more in (
            ("baseline", declared, {}),
            (PROGSPACE, compiled, {"difference": gain, "difference_low": gain - 0.1, "difference_high": gain + 0.1,
                                   "p_value": p, "choice": task}),
        )
    ]  # fmt: skip


def verdicts(name: str, lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(verdict.kind, verdict.text) for verdict in suite(name, f"{name}.jsonl", lines).verdicts]


def test_a_gain_is_a_win_beyond_luck_alone_and_any_lower_mean_a_loss() -> None:
    lines = [*cards("up", 0.5, 0.9, 0.001), *cards("luck", 0.5, 0.55, 0.4), *cards("down", 0.5, 0.49, 0.9)]
    assert [(kind, text.split(":")[0]) for kind, text in verdicts("core", lines)] == [
        ("win", "up"),
        ("open", "luck"),
        ("loss", "down"),
    ]


def test_a_peer_that_is_better_is_a_loss_and_one_that_was_not_met_is_told() -> None:
    lines = [
        *(peer(PROGSPACE, 0.9), peer("GEPA", 0.7)),
        *(peer(PROGSPACE, 0.9, task="b"), peer("GEPA", 0.85, task="b")),
        *(peer(PROGSPACE, 0.6, task="c"), peer("GEPA", 0.7, task="c"), peer("one of our own time", 0.65, task="c")),
        peer("GEPA", 0.7, task="d"),
    ]
    told = verdicts("peers", lines)
    assert [kind for kind, _ in told] == ["win", "open", "loss", "loss", "open"]
    assert "d, 100 calls" in told[-1][1]


def test_what_was_measured_here_is_shown_losses_and_all() -> None:
    shown = {path.stem: suite(path.stem, path.name, read_runs(path)) for path in RESULTS.glob("*.jsonl")}
    assert all(each.tables and each.runs for each in shown.values())
    for name in ("peers", "finetune", "retrieval", "robustness", "replay"):
        assert shown[name].rule, f"{name} is shown as any other file"
        assert shown[name].about
    lost = [verdict.text for verdict in shown["finetune"].verdicts if verdict.kind == "loss"]
    runs = {(run["task"], run["optimizer"]): run["score"] for run in read_runs(RESULTS / "finetune.jsonl")}
    worse = [task for task, name in runs if name == "finetuned" and runs[task, name] < runs[task, "prompt"]]
    assert [text.split(":")[0] for text in lost] == worse


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "row 2: is no JSON"),
        ('{"x": NaN}', "row 2: is no JSON .NaN"),
        ("[1]", "row 2: is no JSON object"),
        (json.dumps(peer("GEPA", 0.5) | {"score": "x"}), "row 2, field 'score'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(peer("GEPA", 0.5)) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ps.DataError, match=told):
        main([str(path)])


def test_a_terminal_and_a_pipe_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    append_results(path, cards("[red]up", 0.5, 0.9, 0.001))
    main([str(path)])
    assert "win  [red]up: 50.0 % → 90.0 %, +40.0 points" in capsys.readouterr().out
    main([str(path), "--json"])
    (shown,) = json.loads(capsys.readouterr().out)["suites"]
    assert shown["runs"] == read_runs(path)
    assert [each["kind"] for each in shown["verdicts"]] == ["win"]
    main([])
    assert "robustness" in capsys.readouterr().out
    with pytest.raises(ps.DataError, match=r"no results of 'nothing'; name a file, or one of .*peers"):
        main(["nothing"])
    with pytest.raises(ps.DataError, match="only score cards are compared"):
        main(["robustness", "--compare", str(path)])


def test_help_tells_of_every_suite() -> None:
    told = CliRunner().invoke(app, ["benchmark", "--help"], env={"COLUMNS": "200"}, catch_exceptions=False).output
    for each in SCRIPTS:
        assert re.search(rf"^{each} +\S+ \S+", told, re.MULTILINE), f"{each} is not told of"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    append_results(folder / "core.jsonl", [*cards(HOSTILE, 0.5, 0.9, 0.001), *cards("down", 0.5, 0.3, 0.01)])
    runs = [peer(PROGSPACE, 0.6, budget=50), peer(PROGSPACE, 0.9), peer(HOSTILE, 0.7), peer("GEPA", 0.8)]
    append_results(folder / "peers.jsonl", runs)
    append_results(folder / "other.jsonl", [{"way": HOSTILE, HOSTILE: index} for index in range(20)])
    names = [str(folder / f"{name}.jsonl") for name in ("core", "peers", "other")]
    main([*names, "finetune", "retrieval", "robustness", "replay", "--html", str(folder / "page.html")])
    return folder / "page.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_is_drawn_hostile_text_stays_text_and_axe_finds_nothing(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    tab = tab_of(browser, page_file.as_uri(), "#suite-6 svg .point", width=width, scheme=scheme)
    assert tab.locator("#main > section").count() == 7
    assert tab.locator("#suite-0 .verdicts .chip").all_inner_texts() == ["win", "loss"]
    assert tab.locator("#suite-0 .ladder svg .disc").count() == 4
    assert tab.locator("#suite-1 figure .point").count() == 4
    assert tab.locator("#suite-1 figure polyline").count() == 1
    tab.locator("#suite-1 .point[tabindex='0']").focus()
    first = tab.inner_text("#tip")
    assert first.startswith("progspace")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#tip") != first
    tab.locator("details summary").last.click()
    assert HOSTILE.split("\u2028")[0].strip()[:40] in tab.inner_text("#suite-2")
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.locator("img").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    assert tab.complaints == []
