"""Are inputs still those that a program was compiled for? Embedded by their words, so that the test knows."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.cli import app
from progspace.monitoring.inputs import LEVELS, p_values
from progspace.monitoring.quality import Quality, quality_of
from progspace.store.database import open_store
from progspace.store.traces import Trace, put_traces, read_traces

FAR = LEVELS[0]
CHANGE = 700  # the call from which others ask


class Words:
    """Texts of the same words are near each other."""

    name = "words"

    def embed(self, texts: Sequence[str]) -> Any:
        vectors = np.full((len(texts), 64), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def asked(n: int, of: str, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    words = of.split()
    return [" ".join(generator.choice(words, 5)) for _ in range(n)]


FILMS = "joy start finish film plot actor dull bright scene jokes ending slow"
BANK = "card money transfer account pin lost fee cash late refund limit"


@pytest.fixture(scope="module")
def strange() -> ps.Strangeness:
    rows = [{"text": text, "label": "a"} for text in dict.fromkeys(asked(150, FILMS, 0))]
    task = ps.Task(
        program=dspy.Predict("text -> label"), examples=rows, metric=ps.metrics.exact_match("label"), name="films"
    )
    return ps.Strangeness(task, embedder=Words())


def traces(strange: ps.Strangeness, texts: Sequence[str], *, kept: bool) -> list[Trace]:
    """Calls that have the number, or only their content."""
    values = strange.of([{"text": text} for text in texts])
    return [
        Trace(f"{n:032x}", "films", "v1", float(n), 0.1, inputs={"text": text}) if kept
        else Trace(f"{n:032x}", "films", "v1", float(n), 0.1, signals={"strangeness": float(value)})
        for n, (text, value) in enumerate(zip(texts, values, strict=True))
    ]  # fmt: skip


def test_ranks_are_independent_however_few_are_known() -> None:
    """Totals of streams vary as those of independent draws do; ranks among 20 known ones alone vary five times more."""
    generator = np.random.default_rng(0)
    totals = [
        (p_values(generator.normal(size=400).round(1), generator.normal(size=20).round(1), seed=run) <= FAR).sum()
        for run in range(300)
    ]
    assert np.mean(totals) == pytest.approx(400 * FAR, abs=1)
    assert np.var(totals) == pytest.approx(400 * FAR * (1 - FAR), rel=0.25)


def changes(found: Quality) -> list[float]:
    (stream,) = (each for each in found.streams if "strang" in each.name)
    assert (stream.name, stream.reference, stream.direction) == ("strange inputs", FAR, "up")
    return [change.since for change in stream.changes[:1]]


@pytest.mark.parametrize("kept", [True, False])
def test_other_inputs_are_told_against_the_tasks_and_against_those_before(strange: ps.Strangeness, kept: bool) -> None:
    quiet = asked(CHANGE, FILMS, 1)
    foreign = [ours if n % 2 else theirs for n, (ours, theirs) in
               enumerate(zip(asked(200, FILMS, 2), asked(200, BANK, 3), strict=True))]  # fmt: skip
    calls = traces(strange, quiet + foreign, kept=kept)
    assert changes(quality_of(calls, known=strange)) == [pytest.approx(CHANGE, abs=20)]
    assert changes(quality_of(traces(strange, quiet, kept=kept), known=strange)) == []
    if kept:
        assert not any("strang" in stream.name for stream in quality_of(calls).streams)  # nobody says what is near
    else:
        assert changes(quality_of(calls, window=300)) == [pytest.approx(CHANGE, abs=20)]
    # It was never used for what it was compiled for: the first calls cannot tell, the task can.
    foreign = traces(strange, asked(CHANGE, BANK, 4), kept=False)
    assert changes(quality_of(foreign, known=strange)) == [pytest.approx(0, abs=5)]
    assert changes(quality_of(foreign, window=300)) == []


class Failing(dspy.Module):
    def forward(self, text: str) -> dspy.Prediction:
        if "card" in text:
            raise ValueError("what is a card?")
        return dspy.Prediction(label="a")


def test_only_the_number_is_stored_also_of_calls_that_fail(strange: ps.Strangeness, tmp_path: Path) -> None:
    signals = {"strangeness": strange, "length": lambda example, prediction: 1.0}
    program = ps.watch(Failing(), store=tmp_path / "t.db", signals=signals)
    program(text="a joy from start to finish")
    with pytest.raises(ValueError, match="what is a card"):
        program(text="my card is lost")
    program.close()
    with open_store(tmp_path / "t.db") as store:
        near, far = read_traces(store)
    assert 0 <= near.signals["strangeness"] < far.signals["strangeness"] <= 1
    assert (near.signals["length"], far.inputs, set(far.signals)) == (1.0, None, {"strangeness"})
    assert program.lost.total() == 0
    assert b"card" not in (tmp_path / "t.db").read_bytes()


def test_the_command_holds_inputs_against_a_task(
    strange: ps.Strangeness, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progspace.monitoring.inputs.find_embedder", lambda name: Words())
    rows = "".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in dict.fromkeys(asked(150, FILMS, 0)))
    (tmp_path / "films.jsonl").write_text(rows)
    (tmp_path / "films.py").write_text(
        "import dspy, progspace as ps\n"
        "def task():\n"
        "    return ps.Task(program=dspy.Predict('text -> label'), inputs=['text'], name='films',\n"
        f"                   examples={str(tmp_path / 'films.jsonl')!r}, metric=ps.metrics.exact_match('label'))\n"
    )
    store = str(tmp_path / "s.db")
    with open_store(store) as opened:
        put_traces(opened, traces(strange, asked(60, BANK, 5), kept=False))
    command = ["monitor", "--store", store, "--known", f"{tmp_path / 'films.py'}:task", "--fail-if-changed"]
    assert app(command, standalone_mode=False) == 1
    told = capsys.readouterr().out
    assert "strange inputs" in told
    assert "CHANGED" in told
    with open_store(store) as opened:
        put_traces(opened, [Trace("x", "another", "", 1e9, 1.0)])
    with pytest.raises(ps.DataError, match="by its name: films, another"):
        app(command, standalone_mode=False)
    assert app([*command, "--name", "films"], standalone_mode=False) == 1


def test_too_few_examples_are_told() -> None:
    rows = [{"text": f"{n}", "label": "a"} for n in range(30)]
    task = ps.Task(
        program=dspy.Predict("text -> label"), examples=rows, metric=ps.metrics.exact_match("label"), name="few"
    )
    with pytest.raises(ps.DataError, match="takes 20 of each"):
        ps.Strangeness(task, embedder=Words())
