from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from progspace.evaluation.quality import Spread, posterior


@dataclass
class Scores:
    scores: NDArray[np.float64]
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def drawn(
    seed: int, candidates: int = 40, examples: int = 150, *, own: float = 0.08, shared: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """True qualities, scores and groups, drawn from the model itself."""
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 5, (candidates, 1))
    quality = 0.6 + generator.normal(0, own, candidates) + generator.normal(0, shared, 5)[groups[:, 0]]
    scores = quality[:, None] + generator.normal(0, 0.2, examples) + generator.normal(0, 0.3, (candidates, examples))
    return quality, scores, groups


def unevenly(scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The scores of prefixes of different lengths."""
    lengths = np.random.default_rng(seed).integers(1, scores.shape[1], len(scores))
    return np.where(np.arange(scores.shape[1]) < lengths[:, None], scores, np.nan)


def dense(scores: NDArray[np.float64], groups: NDArray[np.int64], spread: Spread) -> NDArray[np.float64]:
    """Posterior means of one great normal distribution over all cells, without any short cut."""
    rows, columns = np.nonzero(~np.isnan(scores))
    observed = scores[rows, columns]
    centre = observed.mean()
    total = max((((observed - centre) ** 2).sum() + 0.2) / (observed.size + 1), 1e-6)
    prior = 4 * total + spread.own * np.eye(len(scores))
    for variance, column in zip(spread.shared, groups.T, strict=True):
        prior = prior + variance * (column[:, None] == column[None, :])
    cells = (
        prior[np.ix_(rows, rows)]
        + spread.difficulty * (columns[:, None] == columns[None, :])
        + spread.noise * np.eye(observed.size)
    )
    for variance, column in zip(spread.tastes, groups.T, strict=True):
        alike = column[rows][:, None] == column[rows][None, :]
        cells = cells + variance * alike * (columns[:, None] == columns[None, :])
    return np.asarray(centre + prior[:, rows] @ np.linalg.solve(cells, observed - centre))


@pytest.mark.parametrize("with_groups", [False, True])
def test_the_short_cut_is_exact(with_groups: bool) -> None:
    _, scores, groups = drawn(0, 12, 25, shared=0.1)
    partial = unevenly(scores, 0)
    partial[3, 2] = np.nan  # a hole, where the LM failed
    if with_groups:  # exact as long as all have the same examples
        partial = np.where(np.arange(25) < 9, scores, np.nan)
    partial[7] = np.nan  # nothing bought
    groups = groups if with_groups else np.zeros((12, 0), np.int64)
    quality = posterior(Scores(partial, groups))
    assert quality.mean == pytest.approx(dense(partial, groups, quality.spread), abs=1e-8)


def test_the_variances_are_found() -> None:
    found = [posterior(Scores(drawn(seed, 60, 200)[1])).spread for seed in range(5)]
    assert np.mean([each.noise for each in found]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([each.difficulty for each in found]) == pytest.approx(0.04, rel=0.15)


@pytest.mark.parametrize("uneven", [False, True])
def test_the_posterior_is_as_sure_as_it_is_right(uneven: bool) -> None:
    inside, gaps = [], []
    for seed in range(30):
        quality, scores, groups = drawn(seed, shared=0.1)
        fitted = posterior(Scores(unevenly(scores, seed) if uneven else scores[:, :20], groups))
        # The common level is told by the examples drawn; what a race needs is the leads.
        lead = (fitted.mean - fitted.mean[0])[1:] - (quality - quality[0])[1:]
        deviation = np.sqrt(fitted.variance_of_difference(0)[1:])
        inside.append(np.abs(lead) < 1.96 * deviation)
        gaps.append(lead)
    assert 0.9 <= np.mean(inside) <= 1.0
    assert abs(np.mean(gaps)) < 0.02


def test_it_is_nearer_to_the_truth_than_the_means_are() -> None:
    ours, raw = [], []
    for seed in range(20):
        quality, scores, groups = drawn(seed, shared=0.1)
        few = scores[:, :4]
        centred = quality - quality.mean()
        fitted = posterior(Scores(few, groups)).mean
        ours.append(((fitted - fitted.mean() - centred) ** 2).mean())
        raw.append(((few.mean(axis=1) - few.mean() - centred) ** 2).mean())
    assert np.mean(ours) < 0.4 * np.mean(raw)


def test_the_highest_mean_is_not_too_high() -> None:
    lucky, ours = [], []
    for seed in range(150):
        quality, scores, _ = drawn(seed, examples=30, own=0.04)
        fitted = posterior(Scores(scores)).mean
        level = scores.mean() - quality.mean()  # how easy the examples were, which nobody can know
        ours.append(fitted.max() - quality[fitted.argmax()] - level)
        lucky.append(scores.mean(axis=1).max() - quality[scores.mean(axis=1).argmax()] - level)
    assert abs(np.mean(ours)) < 0.01
    assert np.mean(lucky) > 0.03


def test_who_is_alike_is_expected_to_be_as_good() -> None:
    groups = np.array([[0], [0], [0], [0], [1], [1], [1], [1]])
    scores = np.full((8, 12), np.nan)
    scores[:3], scores[4:7] = [1, 1, 1, 0] * 3, [0, 1, 0, 0] * 3
    with_groups, without = posterior(Scores(scores, groups)), posterior(Scores(scores))
    assert with_groups.mean[3] > with_groups.mean[7] + 0.1
    assert without.mean[3] == pytest.approx(without.mean[7])


def test_probabilities() -> None:
    _, scores, _ = drawn(1)
    quality = posterior(Scores(scores[:, :10]))
    better = quality.probability_better(0)
    draws = quality.draws(20000, np.random.default_rng(1))
    assert better[0] == 0
    assert better[1:] == pytest.approx((draws > draws[:, [0]]).mean(axis=0)[1:], abs=0.02)
    assert (quality.probability_better(0, by=0.05) <= better).all()
    assert draws.mean(axis=0) == pytest.approx(quality.mean, abs=0.01)


@pytest.mark.parametrize(
    "scores",
    [
        np.full((3, 4), np.nan),  # nothing is known
        np.zeros((3, 4)),  # all alike
        np.ones((1, 1)),
        np.array([[1.0, np.nan], [np.nan, np.nan], [0.0, 1.0]]),
        np.array([[1e-9, 2e-9], [3e-9, 1e-9]]),
        1000 * np.array([[0.1, 0.9, 0.4], [0.7, 0.8, 0.2]]),
    ],
)
def test_odd_boards_give_finite_numbers(scores: NDArray[np.float64]) -> None:
    quality = posterior(Scores(scores, np.zeros((len(scores), 1), np.int64)))
    assert np.isfinite(quality.mean).all()
    assert np.isfinite(quality.covariance).all()
    assert (quality.covariance.diagonal() >= 0).all()
    assert np.isfinite(quality.draws(10, np.random.default_rng(0))).all()
