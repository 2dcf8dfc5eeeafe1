from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from progspace.evaluation.sequential import (
    betting_e_values,
    confidence_sequence,
    e_threshold,
    mcnemar_e_values,
)

RACES, ALPHA = 400, 0.05
# What 400 races of level 5 % stay below with a probability of 99.9 %.
AT_MOST = stats.binom.ppf(0.999, RACES, ALPHA) / RACES


def finite_null(generator: np.random.Generator, kind: str, examples: int = 120) -> NDArray[np.float64]:
    """Paired differences of two programs that are equally good on the whole set, in random order."""
    if kind == "binary":
        apart = examples // 8
        differences = np.repeat([1.0, -1.0, 0.0], [apart, apart, examples - 2 * apart])
    else:
        differences = generator.normal(0, 0.3, examples).clip(-1, 1)
        differences -= differences.mean()
        differences = (differences / max(1.0, np.abs(differences).max())).clip(-1, 1)
    return generator.permutation(differences)


@pytest.mark.parametrize("kind", ["binary", "graded"])
@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
def test_bets_seldom_win_against_equals_however_often_one_looks(kind: str, alternative: str) -> None:
    generator = np.random.default_rng(0)
    wrong = sum(
        bool((betting_e_values(finite_null(generator, kind), 120, alternative=alternative) >= 1 / ALPHA).any())
        for _ in range(RACES)
    )
    assert wrong / RACES <= AT_MOST


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
@pytest.mark.parametrize("drawn", ["with replacement", "without"])
def test_mcnemars_evidence_seldom_misleads_however_often_one_looks(alternative: str, drawn: str) -> None:
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(RACES):
        if drawn == "without":
            tosses = finite_null(generator, "binary", 300)
        else:
            tosses = generator.choice([1.0, -1.0, 0.0], 300, p=[0.1, 0.1, 0.8])
        wins, losses = np.cumsum(tosses > 0), np.cumsum(tosses < 0)
        wrong += bool((mcnemar_e_values(wins, losses, alternative=alternative) >= 1 / ALPHA).any())
    assert wrong / RACES <= AT_MOST


def test_a_t_test_after_each_block_misleads_far_more_often_than_its_level() -> None:
    """The race of CAPO: α = 0.2 after each of ten blocks of 30, of two equal prompts, in one direction."""
    generator, called = np.random.default_rng(2), 0
    for _ in range(2000):
        first, second = (generator.random((2, 300)) < 0.7).astype(float)
        lead = first - second
        for seen in range(30, 301, 30):
            part = lead[:seen]
            if stats.t.sf(part.mean() / (part.std(ddof=1) / np.sqrt(seen)), seen - 1) < 0.2:
                called += 1
                break
    assert called / 2000 == pytest.approx(0.49, abs=0.04)


def test_what_is_worse_is_found_out() -> None:
    generator = np.random.default_rng(3)
    worse = generator.choice([1.0, -1.0, 0.0], (200, 300), p=[0.05, 0.2, 0.75])
    found_by_bets = [bool((betting_e_values(row, 300) >= 20).any()) for row in worse]
    wins, losses = np.cumsum(worse > 0, axis=1), np.cumsum(worse < 0, axis=1)
    found_by_tosses = (mcnemar_e_values(wins, losses, alternative="less") >= 20).any(axis=1)
    assert np.mean(found_by_bets) > 0.95
    assert np.mean(found_by_tosses) > 0.95
    assert (mcnemar_e_values(wins, losses, alternative="greater") >= 20).any(axis=1).mean() <= 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 25), st.integers(0, 25))
def test_mcnemars_evidence_is_the_mixture_that_it_says(wins: int, losses: int) -> None:
    def likelihood(q: float) -> float:
        return float(q**wins * (1 - q) ** losses * 2 ** (wins + losses) * stats.beta.pdf(q, 0.5, 0.5))

    whole = integrate.quad(likelihood, 0, 0.5)[0], integrate.quad(likelihood, 0.5, 1)[0]
    assert mcnemar_e_values(wins, losses) == pytest.approx(sum(whole), rel=1e-4)
    assert mcnemar_e_values(wins, losses, alternative="less") == pytest.approx(2 * whole[0], rel=1e-4)
    assert mcnemar_e_values(wins, losses, alternative="greater") == pytest.approx(2 * whole[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_a_confidence_sequence_seldom_misses_at_any_time(kind: str) -> None:
    generator, missed = np.random.default_rng(4), 0
    for _ in range(200):
        differences = np.clip(finite_null(generator, kind, 80) + generator.choice([0.0, 0.2]), -1, 1)
        truth = differences.mean()
        intervals = confidence_sequence(differences, 80)
        missed += any(not each.low - 1e-9 <= truth <= each.high + 1e-9 for each in intervals)
        assert intervals[-1].low == pytest.approx(truth)
        assert intervals[-1].high == pytest.approx(truth)
    assert missed / 200 <= stats.binom.ppf(0.999, 200, ALPHA) / 200


def test_intervals_narrow() -> None:
    intervals = confidence_sequence(finite_null(np.random.default_rng(5), "binary"), 120)
    widths = [each.high - each.low for each in intervals]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(widths))
    assert widths[60] < 0.6


def test_what_is_left_cannot_make_up_for_it() -> None:
    # Six lost of ten: the four that are left cannot bring the mean to 0.
    evidence = betting_e_values([-1.0] * 10, 10)
    assert evidence[5] > 20
    assert evidence[-1] > 1e6


def test_a_missing_score_is_a_tie() -> None:
    assert betting_e_values([-1, np.nan, -1], 20).tolist() == betting_e_values([-1, 0, -1], 20).tolist()


def test_what_is_no_difference_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        betting_e_values([0.0, 0.0], 1)
    with pytest.raises(ValueError, match="bound"):
        betting_e_values([3.0], 5)
    with pytest.raises(ValueError, match="flat"):
        betting_e_values([[0.0]], 5)
    with pytest.raises(ValueError, match="level"):
        confidence_sequence([0.0], 5, level=95)
    with pytest.raises(ValueError, match="α"):
        e_threshold(5)


@pytest.mark.parametrize("truth", [1.0, 0.999, 0.9975])
def test_intervals_of_many_steady_draws_do_not_widen(truth: float) -> None:
    # Both means of the grid beside the truth are ruled out in the end; once nothing was known any more then.
    draws = (np.random.default_rng(0).random(10_000) < truth).astype(float)
    intervals = confidence_sequence(draws, 10**9)
    widths = [each.high - each.low for each in intervals]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(widths))
    assert intervals[-1].low >= 0.985
    assert intervals[-1].low <= truth <= intervals[-1].high


@pytest.mark.parametrize("kind", ["steady", "high"])
def test_intervals_never_open_again_where_all_means_that_are_tried_are_ruled_out(kind: str) -> None:
    drawn = np.random.default_rng(0).random(3500)
    scores = (drawn < 0.999).astype(float) if kind == "high" else 0.502 + 0.002 * drawn
    intervals = confidence_sequence(scores, 10**9)
    assert all(later.low >= earlier.low and later.high <= earlier.high for earlier, later in pairwise(intervals))
    assert intervals[-1].low <= scores.mean() <= intervals[-1].high
    assert intervals[-1].high - intervals[-1].low < 0.03


def test_scores_that_no_mean_fits_leave_everything_open() -> None:
    """Such as those of a program that got worse: what they came from has no one mean."""
    last = confidence_sequence([1.0] * 500 + [0.0] * 500, 10**9, level=0.95)[-1]
    assert (last.low, last.high) == pytest.approx((-1.0, 1.0), abs=1e-5)
