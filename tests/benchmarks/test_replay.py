from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from progspace.benchmarks.bounds import expected
from progspace.benchmarks.promotion import RULES, meet, prove
from progspace.benchmarks.replay import CELLS, DEV, Recording, drawn, main, recordings, replay, summary
from progspace.benchmarks.selection import simulate, synthetic_matrix
from progspace.evaluation.quality import Spread
from progspace.optimizers.board import Board
from progspace.optimizers.races.blocks import Blocks
from progspace.optimizers.races.successive_halving import SuccessiveHalving


def test_a_replay_buys_no_more_than_it_may() -> None:
    matrix = synthetic_matrix(0, candidates=20, examples=100)
    told = replay(SuccessiveHalving(), matrix, [100, 300, 900])
    assert [spent <= mark for (_, spent, _), mark in zip(told, [100, 300, 900], strict=True)] == [True] * 3
    for best, spent, board in told:
        assert spent == board.bought.sum() == (~np.isnan(board.scores)).sum()
        assert board.bought[best] > 0 or not spent
        known = ~np.isnan(board.scores)
        assert (board.scores[known] == matrix.scores[known]).all()


def test_who_buys_everything_regrets_nothing() -> None:
    matrix, dev, _ = drawn(synthetic_matrix(1, candidates=12, examples=200), DEV, seed=0)
    ((best, spent, _),) = replay(Blocks(alpha=1e-12), matrix, [12 * DEV])
    assert spent == 12 * DEV
    assert dev[best] == dev.max()


def test_a_draw_takes_other_examples_and_another_order() -> None:
    matrix = synthetic_matrix(2, candidates=10, examples=200)
    first, second, again = (drawn(matrix, DEV, seed) for seed in (0, 1, 0))
    assert first[0].scores.shape == (10, DEV)
    assert not np.array_equal(first[1], second[1])
    assert np.array_equal(first[0].scores, again[0].scores)
    assert sorted(first[2]) == pytest.approx(sorted(matrix.scores.mean(axis=1)))


def test_the_script_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    there = recordings()
    if not there:
        pytest.skip("there are no recordings: python -m progspace.benchmarks.record")
    task = there[0].task
    arguments = ["--runs", "4", "--tasks", task, "--workers", "1", "--results", str(tmp_path)]
    main([*arguments, "--races", "successive_halving", "posterior_halving"])
    main([*arguments, "--races", "blocks"])
    lines = [json.loads(line) for line in (tmp_path / "replay.jsonl").read_text().splitlines()]
    assert len(lines) == 1 + 3 * len(CELLS)
    assert all(line["low"] <= line["regret"] <= line["high"] and line["spent"] <= line["cells"] for line in lines)
    assert (tmp_path / "replay.svg").read_text().startswith("<?xml")
    assert task in capsys.readouterr().out
    assert "posterior_halving" in summary(lines)


def test_a_lucky_winner_is_told_from_a_good_one() -> None:
    outcomes = [each for seed in range(6) for each in simulate(("synthetic, alike", DEV, seed))]
    off = {way: np.mean([bias for other, _, bias, _ in outcomes if other == way]) for way, *_ in outcomes}
    assert off["argmax"] > 0.1
    assert abs(off["race, model"]) < off["race, raw"] < off["argmax"]
    assert abs(off["confirm set"]) < off["race, raw"]


def test_who_is_told_all_variances_expects_what_the_joint_normal_does() -> None:
    generator = np.random.default_rng(0)
    prior, within = (root @ root.T + np.eye(3) for root in generator.normal(size=(2, 3, 3)))
    scores, bought = generator.normal(size=(3, 4)), np.array([4, 1, 0])
    known = np.arange(4) < bought[:, None]
    found = expected(
        Board(np.where(known, scores, np.nan), bought, np.zeros(3)), prior, within, 0.5, Spread(1.0, 0.0, (), 1.0)
    )
    joint = np.kron(prior, np.ones((4, 4))) + np.kron(within, np.eye(4))  # of cells, candidate by candidate
    means = np.kron(np.eye(3), np.full((1, 4), 1 / 4))
    seen = known.ravel()
    gain = joint[:, seen] @ np.linalg.inv(joint[np.ix_(seen, seen)])
    assert found.mean == pytest.approx(means @ (0.5 + gain @ (scores.ravel()[seen] - 0.5)))
    assert found.covariance == pytest.approx(means @ (joint - gain @ joint[seen]) @ means.T)


def test_recordings_have_the_groups_that_a_search_knows() -> None:
    for recording in recordings():
        assert isinstance(recording, Recording)
        assert recording.scores.shape == (64, 200)
        assert recording.groups.shape == (64, 4)


def test_where_one_candidate_is_always_right_every_rule_of_promotion_ends_with_it() -> None:
    scores = np.zeros((28, 200))
    scores[5] = 1.0
    matrix = Recording("made-up", scores, np.full(28, 50.0), np.zeros((28, 0), np.int64))
    gains = set()
    for seed in range(6):
        meeting = meet((matrix, 250, seed))
        gains.add(meeting.gain)
        # A race that is settled at once buys less than ten examples.
        rules = {name: rule for name, rule in RULES.items() if "raced on" not in name}
        assert [rule(meeting) for rule in rules.values()] == [meeting.gain > 0] * len(rules)
    assert gains == {1.0, -1.0}  # it joined after the incumbent, or was the incumbent


def test_the_last_word_of_a_search_ships_what_is_right_and_asks_train_only_where_dev_leaves_it_open() -> None:
    scores = np.zeros((29, 200))
    scores[5] = 1.0
    right = Recording("made-up", scores, np.full(29, 50.0), np.zeros((29, 0), np.int64), np.arange(29))
    assert prove((right, 0)) == (True, True, 1.0)
    ends = [prove((recording, seed)) for recording in recordings() for seed in range(8)]
    assert all(in_all for by_dev, in_all, _ in ends if by_dev)
    assert 0 < sum(in_all for _, in_all, _ in ends) < len(ends)
