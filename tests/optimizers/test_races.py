"""One suite for all races, then what is each one's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from progspace.optimizers.board import Board
from progspace.optimizers.races.base import Race
from progspace.optimizers.races.blocks import Blocks
from progspace.optimizers.races.confidence import Confidence
from progspace.optimizers.races.posterior_halving import PosteriorHalving
from progspace.optimizers.races.purchases import affordable_purchase
from progspace.optimizers.races.registry import DEFAULT_RACE, RACES
from progspace.optimizers.races.successive_halving import SuccessiveHalving
from progspace.optimizers.races.top_two import TopTwo
from progspace.optimizers.races.wilcoxon import Wilcoxon

EVERY = sorted(RACES)
# Optuna's pruner takes a while: it is asked seldom, and what it said of the same differences it says again (that is
# tested below).
MAKERS = {**RACES, "wilcoxon": partial(Wilcoxon, verdicts={}, block=16)}


@dataclass
class Track:
    """Sells cells of a full matrix; the first ``joined`` rows are there from the beginning."""

    full: NDArray[np.float64]
    affordable: int | None
    joined: int = 0
    groups: NDArray[np.int64] | None = None
    head_start: int = 0
    bought: NDArray[np.int64] = field(init=False)
    dropped: list[int] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self.joined = self.joined or len(self.full)
        self.bought = np.zeros(len(self.full), np.int64)
        self.bought[0] = self.head_start

    @property
    def board(self) -> Board:
        seen = np.arange(self.full.shape[1]) < self.bought[:, None]
        board = Board(
            np.where(seen, self.full, np.nan)[: self.joined],
            self.bought[: self.joined].copy(),
            np.where(self.bought > 0, 100.0 + np.arange(len(self.full)), np.nan)[: self.joined],
            affordable=self.affordable,
        )
        return board if self.groups is None else replace(board, groups=self.groups[: self.joined])

    def sell(self, race: Race) -> bool:
        """One step; whether the race goes on."""
        self.steps += 1
        assert self.steps < 20_000, "the race does not end"
        board = self.board
        purchase = race.step(board)
        if purchase is None:
            return False
        assert len(set(purchase.candidates)) == len(purchase.candidates)
        assert all(0 <= row < self.joined for row in purchase.candidates)
        assert all(0 <= row < self.joined and reason for row, reason in purchase.dropped)
        self.dropped += [row for row, _ in purchase.dropped]
        before = self.bought.copy()
        for row in purchase.candidates:
            self.bought[row] = max(self.bought[row], min(purchase.until, self.full.shape[1]))
        cost = int((self.bought - before).sum())
        assert cost or purchase.dropped, "a step that buys nothing says why"
        if self.affordable is not None:
            assert cost <= self.affordable
            self.affordable -= cost
        return True

    def run(self, race: Race) -> int:
        while self.sell(race):
            best = race.best(self.board)
            assert 0 <= best < self.joined
        best = race.best(self.board)
        if self.bought[: self.joined].any():
            assert self.bought[best] > 0
        return best


def scores_of(kind: str, candidates: int, examples: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    if kind == "ties":
        return np.ones((candidates, examples))
    quality = generator.uniform(0.2, 0.9, candidates)
    if kind == "graded":
        scores = np.clip(quality[:, None] + generator.normal(0, 0.2, (candidates, examples)), 0, 1)
    else:
        scores = (generator.random((candidates, examples)) < quality[:, None]).astype(float)
    if kind == "holes":
        scores[generator.random((candidates, examples)) < 0.3] = np.nan
        scores[candidates // 2] = np.nan  # the LM never answered
    return scores


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_race_ends_within_what_is_affordable(name: str, data: st.DataObject) -> None:
    candidates = data.draw(st.integers(1, 40), "candidates")
    sizes = [3, 10, 40] if name == "wilcoxon" else [3, 10, 40, 120]
    examples = data.draw(st.sampled_from(sizes), "examples")
    kind = data.draw(st.sampled_from(["binary", "graded", "ties", "holes"]), "kind")
    affordable = data.draw(st.sampled_from([None, 0, 1, 10, 60, 300, 2000]), "affordable")
    groups = np.arange(candidates)[:, None] % 3 if data.draw(st.booleans(), "groups") else None
    track = Track(
        scores_of(kind, candidates, examples, data.draw(st.integers(0, 99), "seed")),
        affordable,
        groups=groups,
        head_start=data.draw(st.sampled_from([0, examples]), "head start"),
    )
    track.run(MAKERS[name](0))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("candidates", "examples", "affordable"), [(100, 1000, 4_000), (3, 1000, 10), (100, 3, 10)])
def test_every_race_takes_small_and_large_boards(name: str, candidates: int, examples: int, affordable: int) -> None:
    Track(scores_of("binary", candidates, examples, 0), affordable).run(MAKERS[name](0))


@pytest.mark.parametrize("name", EVERY)
def test_every_race_finds_who_is_clearly_best(name: str) -> None:
    generator, found = np.random.default_rng(0), 0
    for seed in range(10):
        quality = np.full(12, 0.4)
        quality[generator.integers(12)] = 0.95
        scores = (generator.random((12, 120)) < quality[:, None]).astype(float)
        found += Track(scores, 1000).run(MAKERS[name](seed)) == quality.argmax()
    assert found >= (7 if name == "wilcoxon" else 9)  # a trial that is lucky for a few examples ends the luck of others


@pytest.mark.parametrize("name", EVERY)
def test_every_race_lets_candidates_join(name: str) -> None:
    scores = np.zeros((12, 120))
    scores[:4] = scores_of("binary", 4, 120, 3)
    scores[9] = 1.0
    track, race = Track(scores, 1200, joined=4), MAKERS[name](0)
    for _ in range(3):
        track.sell(race)
    track.joined = 12
    assert track.run(race) == 9
    assert (track.bought[4:] > 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_every_race_does_the_same_again(name: str) -> None:
    tracks = [Track(scores_of("holes", 20, 60, 5), 400) for _ in range(2)]
    assert tracks[0].run(MAKERS[name](7)) == tracks[1].run(MAKERS[name](7))
    assert tracks[0].bought.tolist() == tracks[1].bought.tolist()


@pytest.mark.parametrize("name", [name for name in EVERY if name != "wilcoxon"])
def test_of_equals_the_one_of_fewest_tokens_is_chosen(name: str) -> None:
    assert Track(np.ones((6, 30)), 180).run(MAKERS[name](0)) == 0


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT_RACE in RACES


def test_less_is_bought_where_less_is_affordable() -> None:
    board = Board(np.full((4, 10), np.nan), np.array([0, 5, 5, 5]), np.full(4, np.nan))
    assert affordable_purchase(board, [1, 2], 5) is None
    short = replace(board, affordable=2)
    taken = affordable_purchase(short, [1, 2, 3], 10)
    assert taken is not None
    assert (taken.candidates, taken.until) == ((1, 2), 6)
    assert affordable_purchase(replace(board, affordable=0), [1], 10) is None


def test_halving_shares_cells_equally_over_rounds() -> None:
    track, race, sizes = Track(scores_of("binary", 16, 200, 0), 640), SuccessiveHalving(), []
    before = 0
    while track.sell(race):
        sizes.append(int(track.bought.sum()) - before)
        before += sizes[-1]
    sizes = [size for size in sizes if size]  # the last step only drops
    assert len(sizes) == 4
    assert all(140 <= size <= 165 for size in sizes)
    assert np.sort(track.bought)[-2:].tolist() == [track.bought.max()] * 2


def test_blocks_are_whole() -> None:
    track, race = Track(scores_of("binary", 10, 120, 1), 100), Blocks()
    track.sell(race)
    assert sorted(track.bought.tolist()) == [0] * 7 + [30] * 3


def test_wilcoxon_runs_one_after_the_other_and_prunes() -> None:
    scores = scores_of("binary", 6, 120, 2)
    scores[0], scores[1:] = 1.0, scores[1:] * 0.5
    track = Track(scores, None)
    assert track.run(Wilcoxon()) == 0
    assert track.bought[0] == 120
    assert (track.bought[1:] < 40).all()
    assert sorted(track.dropped) == [1, 2, 3, 4, 5]


def test_wilcoxon_remembers_verdicts_and_buys_the_same() -> None:
    verdicts: dict[tuple[float, ...], bool] = {}
    boughts = []
    for race in (Wilcoxon(), Wilcoxon(verdicts=verdicts), Wilcoxon(verdicts=verdicts)):
        track = Track(scores_of("graded", 8, 60, 4), 300)
        track.run(race)
        boughts.append(track.bought.tolist())
    assert boughts[0] == boughts[1] == boughts[2]
    assert len(verdicts) > 3


def test_confidence_drops_only_who_is_worse() -> None:
    """Of many races between equals, few say anything; of clear ones, most do."""
    generator = np.random.default_rng(5)
    wrong = right = 0
    for seed in range(60):
        equals = (generator.random((5, 120)) < 0.6).astype(float)
        track, race = Track(equals, None), Confidence(seed)
        track.run(race)
        wrong += bool(track.dropped)
        clear = equals.copy()
        clear[1:] *= generator.random((4, 120)) < 0.4
        track, race = Track(clear, None), Confidence(seed)
        track.run(race)
        right += len(track.dropped) == 4
    assert wrong <= 7
    assert right >= 50


def test_confidence_may_leave_it_undecided() -> None:
    track, race = Track(scores_of("ties", 4, 30, 0), None), Confidence()
    track.run(race)
    assert [race.verdict(track.board, row) for row in range(4)] == ["undecided"] * 4
    worse = Track(np.repeat([[1.0], [0.0]], 30, axis=1), None)
    race = Confidence()
    worse.run(race)
    assert race.verdict(worse.board, 1) == "worse"


def test_confidence_lets_a_better_one_take_the_incumbents_place() -> None:
    scores = np.zeros((3, 60))
    scores[2] = 1.0
    race = Confidence()
    track = Track(scores, None)
    assert track.run(race) == 2
    assert race.incumbent == 2
    assert 0 in track.dropped


@pytest.mark.parametrize("maker", [PosteriorHalving, TopTwo])
def test_nothing_more_is_bought_when_the_best_is_clear(maker: type[PosteriorHalving | TopTwo]) -> None:
    generator = np.random.default_rng(6)
    scores = (generator.random((10, 400)) < 0.3).astype(float)
    scores[4] = generator.random(400) < 0.95
    track = Track(scores, None)
    assert track.run(maker(0)) == 4
    assert track.bought.sum() < 0.5 * scores.size


def test_kinds_are_learned() -> None:
    """Where candidates of a kind are alike, few cells tell the good kind."""
    generator, regrets = np.random.default_rng(7), {True: [], False: []}
    for seed in range(25):
        groups = generator.integers(0, 6, (48, 1))
        quality = np.clip(generator.uniform(0.2, 0.9, 6)[groups[:, 0]] + generator.normal(0, 0.02, 48), 0, 1)
        scores = (generator.random((48, 120)) < quality[:, None]).astype(float)
        for told, found in regrets.items():
            best = Track(scores, 120, groups=groups if told else None).run(PosteriorHalving(seed))
            found.append(quality.max() - quality[best])
    assert np.mean(regrets[True]) < 0.6 * np.mean(regrets[False])
