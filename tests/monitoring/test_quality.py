from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import RenderableType

import progspace as ps
from progspace.cli import app
from progspace.evaluation.shown import as_text
from progspace.monitoring.quality import quality_of
from progspace.monitoring.rendering import quality_view, traces_view
from progspace.store.database import open_store
from progspace.store.traces import Trace, put_feedback, put_traces

DROP = 800  # the call from which a worse version answers


def calls(n: int = 1_200, seed: int = 0) -> list[Trace]:
    generator = np.random.default_rng(seed)
    return [
        Trace(
            f"{i:032x}", "mood", "a" * 64 if i < DROP else "b" * 64, 1e9 + i,
            float(generator.exponential(0.2 if i < DROP else 0.8)), calls=1, input_tokens=30, output_tokens=2,
            error="LMError" if generator.random() < (0.002 if i < DROP else 0.15) else None,
            confidence=float(generator.beta(8, 2 if i < DROP else 8)), declared=0.9,
            signals={"grounded": float(generator.random() < (0.95 if i < DROP else 0.7)), "length": float(i % 7)},
            score=float(generator.random() < (0.95 if i < DROP else 0.75)),
        )
        for i in range(n)
    ]  # fmt: skip


def test_what_changed_is_told_with_its_time_and_version() -> None:
    found = quality_of(calls(), window=400)
    changed = {stream.name: stream.changes[0] for stream in found.streams if stream.changes}
    assert set(changed) == {
        "score, against the promise", "score", "errors", "long calls", "unsure answers", "grounded, down"
    }  # fmt: skip
    for change in changed.values():
        assert abs(change.since - (1e9 + DROP)) <= 60
        assert DROP < change.detected - 1e9 < DROP + 300
    exact = next(change for change in changed.values() if change.since == 1e9 + DROP)
    assert (exact.version, exact.new_version) == ("b" * 64, True)
    assert (found.calls, found.versions, found.judged, found.version) == (1_200, 2, 400, "b" * 64)
    assert found.interval is not None
    assert found.interval.low < 0.75 < found.interval.high
    assert found.interval.high < 0.9


def test_a_promise_binds_the_versions_that_made_it() -> None:
    generator = np.random.default_rng(1)
    upgraded = [
        Trace(f"{i:032x}", "mood", "a" if i < 700 else "b", float(i), 0.1, declared=0.5 if i < 700 else 0.85,
              score=float(generator.random() < (0.6 if i < 700 else 0.95)))
        for i in range(1_000)
    ]  # fmt: skip
    found = {stream.name: stream for stream in quality_of(upgraded).streams}
    promise = found["score, against the promise"]
    assert (promise.n, promise.reference, promise.changes) == (300, 0.85, ())
    assert found["score"].n == 1_000


def test_a_reference_of_one_allows_no_fault() -> None:
    given = [Trace(f"{i:032x}", "mood", "a", float(i), 0.1, score=float(i < 20)) for i in range(30)]
    (score, *_) = quality_of(given, reference=1.0).streams
    assert score.changes[0].since == 20
    assert not quality_of(given[:20], reference=1.0).changed


def test_what_did_not_change_raises_no_alarm() -> None:
    assert not quality_of(calls(DROP, seed=1), window=200).changed
    few = quality_of(calls(30))
    assert few.calls == 30


class Page(HTMLParser):
    """Counts elements, and what leads elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("width", [110, 80, 60, 40])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    """An id that went on in the next line could not be copied, and figures ended in "…"."""
    given = [replace(each, name="a program of a long name", error="LMError: of its words") for each in calls()]

    def letters(view: RenderableType, width: int) -> list[str]:
        return sorted(filter(str.isalnum, as_text(view, width)))

    for view in (quality_view([quality_of(given, window=400)]), traces_view(given[-3:])):
        assert letters(view, width) == letters(view, 400)
    assert given[-1].id in as_text(traces_view(given[-3:]), width)
    assert "100.0 %" in as_text(quality_view([quality_of([replace(each, error="E") for each in given])]), width)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    store, page = str(tmp_path / "s.db"), tmp_path / "m.html"
    given = calls()
    with open_store(store) as opened:
        put_traces(opened, given)
        for trace in given:
            put_feedback(opened, trace.id, score=trace.score, labels={}) if trace.created % 4 == 0 else None
        put_traces(opened, [Trace("x", "<script>", "", 2e9, 1.0, outputs={"label": "glad"}, outputs_whole=True)])

    def run(*arguments: str) -> str:
        app([*arguments, "--store", store], standalone_mode=False)
        return capsys.readouterr().out

    told = run("monitor", "--html", str(page), "--window", "400")
    assert "CHANGED" in told
    assert "higher since about" in told
    read = Page()
    read.feed(page.read_text(encoding="utf-8"))
    assert read.tags.count("svg") >= 10
    assert "script" not in read.tags
    assert read.links == []
    programs = json.loads(run("monitor", "--json", "--name", "mood"))["programs"]
    assert [each["judged"] for each in programs] == [100]
    assert app(["monitor", "--fail-if-changed", "--store", store, "--window", "400"], standalone_mode=False) == 1
    capsys.readouterr()
    assert len(json.loads(run("traces", "--last", "3", "--json"))["traces"]) == 3
    assert "glad" in run("traces", "x")
    with open_store(store) as opened:
        put_traces(opened, [Trace("z", "odd", "", 3e9, 1.0, outputs={"p": [math.nan, math.inf, 0.5], "label": "NaN"})])
    for told in (run("traces", "--last", "1", "--json"), run("traces", "z")):
        assert told.count("NaN") == 1  # no JSON but Python's holds it
        assert "Infinity" not in told
    assert json.loads(run("traces", "z", "--json"))["traces"][0]["outputs"] == {"p": [None, None, 0.5], "label": "NaN"}
    assert "has the score 0" in run("feedback", "x", "--label", "label=sad")
    with pytest.raises(ps.DataError, match="there is no trace 'y'"):
        run("feedback", "y", "--score", "1")
    with pytest.raises(ps.DataError, match="not of the form"):
        run("feedback", "x", "--label", "sad")
    with pytest.raises(ps.DataError, match="no such store"):
        app(["monitor", "--store", str(tmp_path / "none.db")], standalone_mode=False)
