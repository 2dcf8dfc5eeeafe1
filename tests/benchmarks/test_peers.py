from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import dspy
import pytest

from progspace.benchmarks.peer_runs import PEERS, PROGSPACE, Key, Setup, run
from progspace.benchmarks.peer_table import calls_to_reach, entries, table
from progspace.benchmarks.peers import grid, known, main
from progspace.store.database import Store

WRITTEN = "Say whether the reviewer liked the movie."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "movie-sentiment"
    folder.mkdir()
    for part, count in (("train", 120), ("test", 30)):
        rows = [
            {"text": f"a {'fine' if i % 2 else 'dull'} movie, {part} {i}", "label": "positive" if i % 2 else "negative"}
            for i in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


@pytest.fixture
def setup_of(rule_engine: Any, store: Store, data: Path, tmp_path: Path) -> Any:
    """An LM that tells a review's sentiment where demonstrations or a written instruction help it to."""

    def logprob(prompt: str, choice: str) -> float:
        review = prompt.rsplit("Review:", 1)[-1]
        knows = prompt.count("Review:") > 1 or WRITTEN in prompt
        right = "positive" if "fine" in review else "negative"
        return -0.1 if choice.strip() == (right if knows else "negative") else -2.0

    def make(written: str = WRITTEN) -> Setup:
        two = f"{written}\nProposed Prefix For Output Field: Sentiment:"
        engine = rule_engine(lambda prompt: two if "instruction optimizer" in prompt else written, logprobs=logprob)
        return Setup(data, store, engine.lm(), engine.lm("rule/writer"), tmp_path / "logs", rows=100, test_rows=30)

    return make


@pytest.mark.parametrize("optimizer", PEERS)
def test_every_peer_searches_within_the_budget_and_is_scored_apart(setup_of: Any, optimizer: str) -> None:
    if optimizer == "CAPO":
        pytest.importorskip("promptolution")
    line = run(Key("movie-sentiment", optimizer, "best", 300, 0), setup_of())
    assert line["n_test"] == 30
    assert line["calls"] <= 300
    assert line["test_calls"] == 30
    assert line["searched"] != "died", line["reason"]
    assert line["score"] == 1.0, line
    assert line["fell_back"] is (line["reason"] is not None)
    if optimizer in ("LabeledFewShot", "BootstrapFewShotWithRandomSearch"):
        assert not line["fell_back"]


def test_a_peer_that_dies_is_told_and_scored_as_it_started(setup_of: Any) -> None:
    # COPRO's proposals have two outputs: an LM that writes one line gives none that can be parsed.
    setup = setup_of()
    line = run(Key("movie-sentiment", "COPRO", "default", 100, 0), setup)
    assert line["fell_back"]
    assert line["reason"].startswith("it died: ")
    assert line["searched"] == "died"


def test_progspace_is_one_more_optimizer(setup_of: Any) -> None:
    line = run(Key("movie-sentiment", PROGSPACE, "own", 300, 0), setup_of())
    assert line["n_test"] == 30
    assert 0 < line["calls"] <= 300
    assert line["low"] <= line["score"] <= line["high"]


def test_the_budget_is_a_hard_stop(setup_of: Any) -> None:
    line = run(Key("movie-sentiment", "BootstrapFewShotWithRandomSearch", "best", 40, 0), setup_of())
    assert line["calls"] <= 40


def test_the_order_begins_with_every_peer_in_the_best_format(data: Path) -> None:
    keys = grid(["a", "b"], [*PEERS, PROGSPACE], [500, 2000], [0, 1], ["best", "default"])
    assert len(keys) == len(set(keys)) == 2 * len(PEERS) * 8 + 2 * 4
    first = keys[: 2 * len(PEERS)]
    assert {(key.format, key.budget, key.seed) for key in first} == {("best", 500, 0)}
    assert keys[2 * len(PEERS)].format == "default"
    assert {key.optimizer for key in keys[-8:]} == {PROGSPACE}


def test_a_run_that_stands_in_the_results_is_not_run_again(tmp_path: Path) -> None:
    key = Key("movie-sentiment", "LabeledFewShot", "best", 500, 0)
    results = tmp_path / "peers.jsonl"
    names = ("task", "optimizer", "format", "budget", "seed")
    results.write_text(json.dumps(dict(zip(names, astuple(key), strict=True))) + "\n", encoding="utf-8")
    assert known(results) == {astuple(key)}
    assert known(tmp_path / "none.jsonl") == set()
    with pytest.raises(SystemExit):
        main(["--results", str(results)])  # no data


def _line(
    optimizer: str, budget: int, score: float, task: str = "a", seed: int = 0, layout: str = "best", **more: Any
) -> dict[str, Any]:
    layout = "own" if optimizer == PROGSPACE else layout
    line = {"task": task, "optimizer": optimizer, "format": layout, "budget": budget, "seed": seed, "score": score}
    return {**line, "low": score - 0.05, "high": score + 0.05, "fell_back": False, **more}


def test_the_table_shows_losses_and_calls_to_reach() -> None:
    runs = [
        _line("GEPA", 500, 0.70, fell_back=True),
        _line("GEPA", 500, 0.80, seed=1),
        _line("SIMBA", 500, 0.60),
        _line("SIMBA", 500, 0.73, layout="default"),
        _line("GEPA", 500, 0.40, layout="default"),
        _line(PROGSPACE, 100, 0.76),
        _line(PROGSPACE, 500, 0.72),
        _line("GEPA", 500, 0.50, task="b"),
        _line(PROGSPACE, 200, 0.40, task="b"),
        _line(PROGSPACE, 500, 0.60, task="b"),
    ]
    found = entries(runs)
    assert found["a", 500]["GEPA", "best"].score == pytest.approx(0.75)
    assert found["a", 500]["GEPA", "best"].fell_back == 1
    assert calls_to_reach(found, 500, "best") == {"a": ("GEPA", 100), "b": ("GEPA", 500)}
    assert calls_to_reach(found, 500, "default") == {"a": ("SIMBA", 100)}
    text = table(runs)
    assert "fell back 1 of 2" in text
    assert "a, 500 calls: GEPA best by +3.0 points, within progspace's interval" in text
    assert "b, 500 calls: GEPA" not in text
    assert "geometric mean over the 2 of 2 tasks that reached it: 0.45" in text
    assert "geometric mean over the 1 of 1 tasks that reached it: 0.20" in text
    assert text.index("peers in DSPy's default format") < text.index("0.20\n") < text.index("peers in our best format")
    assert table([]) == "no runs yet"


def test_a_peer_that_is_never_reached_is_told() -> None:
    runs = [_line("GEPA", 500, 0.9), _line(PROGSPACE, 500, 0.5)]
    assert calls_to_reach(entries(runs), 500, "best") == {"a": ("GEPA", None)}
    assert "outside progspace's interval" in table(runs)
    assert "not reached" in table(runs)


def test_a_small_run_on_the_embedded_lm(local_lm: dspy.LM, data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results" / "peers.jsonl"
    arguments = [
        "--data", str(data), "--tasks", "movie-sentiment", "--optimizers", "LabeledFewShot", "--formats", "best",
        "--budgets", "500", "--seeds", "0", "--store", str(tmp_path / "peers.db"), "--results", str(results),
    ]  # fmt: skip
    main(arguments)
    (line,) = [json.loads(text) for text in results.read_text(encoding="utf-8").splitlines()]
    assert (line["calls"], line["n_test"], line["fell_back"]) == (0, 30, False)
    before = results.read_bytes()
    main(arguments)
    assert results.read_bytes() == before
