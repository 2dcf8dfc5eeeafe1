from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progspace.evaluation.statistics import mean_interval, paired_test, shrunken_means

BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)
BOUNDED = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Wilson's interval at 95 %, as in Newcombe 1998 (Statistics in Medicine 17, 857–872), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    interval = mean_interval([1.0] * successes + [0.0] * (n - successes))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(BINARY | BOUNDED)
def test_an_interval_holds_its_mean(scores: list[float]) -> None:
    interval = mean_interval(scores)
    assert interval.low - 1e-9 <= sum(scores) / len(scores) <= interval.high + 1e-9
    assert mean_interval(scores) == interval


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_paired_test_is_symmetric(data: st.DataObject) -> None:
    a = data.draw(BINARY | BOUNDED)
    kind = st.sampled_from([0.0, 1.0]) if set(a) <= {0.0, 1.0} else st.floats(0, 1)
    b = data.draw(st.lists(kind, min_size=len(a), max_size=len(a)))
    one, other = paired_test(a, b), paired_test(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.wins_a, one.wins_b, one.ties) == (other.wins_b, other.wins_a, other.ties)
    assert 0 <= one.p_value <= 1
    assert one.p_value == pytest.approx(other.p_value)
    assert one.interval.low - 1e-9 <= one.difference <= one.interval.high + 1e-9
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low), abs=1e-9)
    assert paired_test(a, b) == one


def test_equal_programs_differ_by_nothing() -> None:
    assert paired_test([1, 0, 1], [1, 0, 1]).p_value == 1.0
    assert paired_test([0.5, 0.25], [0.5, 0.25]).p_value == 1.0
    rounded = paired_test([0.1 + 0.2, 0.5, 0.5, 0.25], [0.3, 0.5, 0.25, 0.5])
    assert (rounded.wins_a, rounded.wins_b, rounded.ties) == (1, 1, 2)


def test_few_examples_give_the_exact_permutation_p_value() -> None:
    # Of the 2^5 flips of signs, one is as extreme, on either side.
    assert paired_test([0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.3, 0.6, 0.4, 0.4]).p_value == pytest.approx(2 / 32)


@pytest.mark.parametrize(
    ("a", "b", "level", "told"),
    [
        ([], [], 0.95, "0 scores"),
        ([1], [1, 0], 0.95, "same examples"),
        ([math.nan, 0.5, 0.2], [0.1, 0.1, 0.1], 0.95, "finite"),
        ([math.inf, 0.5, 0.2], [0.1, 0.1, 0.1], 0.95, "finite"),
        ([[0.5], [0.2]], [[0.5], [0.2]], 0.95, "flat"),
        ([0.5, 0.2, 0.1], [0.1, 0.1, 0.1], 95, "between 0 and 1"),
        ([1, 0], [0, 0], 1.0, "between 0 and 1"),
    ],
)
def test_what_is_no_scores_is_refused(a: list[float], b: list[float], level: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        paired_test(a, b, level=level)
    if len(a) == len(b):
        with pytest.raises(ValueError, match="no scores" if not a else told):
            mean_interval(a, level=level)


@pytest.mark.parametrize("score", [0.5, 100.0, -2.0])
def test_scores_without_spread_leave_doubt(score: float) -> None:
    """Equal scores do not make an interval a point; outside of [0, 1] it is not cut off at a bound that is none."""
    few, many = mean_interval([score] * 3), mean_interval([score] * 300)
    for interval in (few, many):
        assert interval.method == "Hoeffding"
        assert score - interval.low == pytest.approx(interval.high - score) or (interval.low, interval.high) == (0, 1)
    assert few.high - few.low > many.high - many.low > 0
    # Differences that are equal but for rounding are no surer.
    difference = paired_test([0.3, 0.6, 0.4], [0.2, 0.5, 0.3]).interval
    assert (difference.low, difference.high) == (-1, 1)
    assert paired_test([score + 10.5] * 9, [score] * 9).interval.high > 10.5


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_few_graded_scores_keep_their_levels(n: int) -> None:
    """Resampling three examples held the mean 8 times in 10, and told equal programs apart 1 time in 5."""
    rng, runs = np.random.default_rng(0), 400
    held = apart = 0
    for _ in range(runs):
        one, other = rng.beta(2, 2, (2, n))
        interval, difference = mean_interval(one.tolist()), paired_test(one.tolist(), other.tolist()).interval
        assert interval.method == difference.method == "Student's t"
        held += interval.low <= 0.5 <= interval.high
        apart += not difference.low <= 0 <= difference.high
    assert held / runs > 0.93
    assert apart / runs < 0.07


def test_an_interval_on_few_examples_does_not_gainsay_its_p_value() -> None:
    test = paired_test([0.6, 0.7, 0.8, 0.9], [0.5, 0.55, 0.7, 0.65])
    assert test.p_value == 0.125
    assert test.interval.low < 0 < test.interval.high


def test_intervals_of_few_examples_are_those_of_their_scale() -> None:
    """On a scale of 0 to 5 they are five times as wide; where the range is known, they stay within."""
    stars = np.array([3.0, 5.0, 4.5, 0.0, 5.0, 2.0])
    one, five = mean_interval((stars / 5).tolist()), mean_interval(stars.tolist())
    assert five.low == pytest.approx(5 * one.low)
    assert (one.high, five.high > 5) == (1.0, True)
    assert mean_interval([0.1, 0.0, 0.05]).low == 0.0
    assert paired_test([1.0, 0.9, 1.0], [0.0, 0.05, 0.1]).interval.high == 1.0


@pytest.mark.parametrize("kind", ["spread", "but for one alike"])
def test_an_interval_does_not_jump_with_the_thirtieth_example(kind: str) -> None:
    """One example more does not make it much narrower, be it that others are resampled from then on."""
    widths = []
    for n in (29, 30):
        interval = mean_interval(np.linspace(0.1, 0.9, n).tolist() if kind == "spread" else [0.8] * (n - 1) + [0.79])
        widths.append(interval.high - interval.low)
    assert 0.85 * widths[0] < widths[1] < widths[0]


def test_newcombes_interval_covers() -> None:
    """The exact coverage at n = 15: every table's probability counts where its interval holds the true difference."""
    n = 15
    tables = [(e, f, g, n - e - f - g) for e, f, g in product(range(n + 1), repeat=3) if e + f + g <= n]
    intervals, ways = [], []
    for e, f, g, h in tables:
        found = paired_test([1] * (e + f) + [0] * (g + h), [1] * e + [0] * f + [1] * g + [0] * h).interval
        intervals.append((found.low, found.high))
        ways.append(math.factorial(n) / math.prod(map(math.factorial, (e, f, g, h))))
    coverage = []
    for odds in product([0.5, 1.0, 3.0], repeat=4):
        cells = np.array(odds) / sum(odds)
        chance = np.array(ways) * (cells ** np.array(tables)).prod(axis=1)
        truth = cells[1] - cells[2]
        coverage.append(sum(p for p, (low, high) in zip(chance, intervals, strict=True) if low <= truth <= high))
    assert min(coverage) > 0.91
    assert 0.94 < np.mean(coverage) < 0.975


@pytest.mark.parametrize("binary", [True, False])
def test_the_paired_test_and_interval_keep_their_levels(binary: bool) -> None:
    """Of two programs with a true difference of 0.1, the interval holds it; of equal ones, few are told apart."""
    rng = np.random.default_rng(3)
    held = told_apart = found = 0
    runs = 300 if binary else 150
    for run in range(runs):
        shared = rng.random(60)
        a, b = (shared + rng.random(60)) / 2, (shared + rng.random(60)) / 2
        if binary:
            a, b, better = (a < 0.6), (b < 0.6), (a < 0.6 + 0.0707)
            truth = 0.1  # about: the mean of two uniform numbers has density 1.6 near 0.6
        else:
            better, truth = a + 0.1, 0.1
        test = paired_test(better.astype(float), b.astype(float), seed=run)
        held += test.interval.low <= truth <= test.interval.high
        found += test.p_value < 0.05
        told_apart += paired_test(a.astype(float), b.astype(float), seed=run).p_value < 0.05
    assert held / runs > 0.91
    assert told_apart / runs < 0.08
    assert found / runs > (0.15 if binary else 0.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-4, 0.1)), min_size=1, max_size=20))
def test_shrinking_stays_within_and_keeps_the_order_of_equals(pairs: list[tuple[float, float]]) -> None:
    means, variances = [mean for mean, _ in pairs], [0.01] * len(pairs)
    shrunken = shrunken_means(means, [variance for _, variance in pairs])
    assert all(min(means) - 1e-9 <= value <= max(means) + 1e-9 for value in shrunken)
    equal = shrunken_means(means, variances)
    assert sorted(range(len(means)), key=lambda i: (means[i], i)) == sorted(
        range(len(means)), key=lambda i: (round(equal[i], 12), means[i], i)
    )


def test_shrinking_cures_the_winners_curse() -> None:
    rng = np.random.default_rng(0)
    raw, cured = [], []
    for _ in range(2000):
        true = rng.normal(0.7, 0.03, 20)
        measured = rng.normal(true, 0.05)
        best = int(measured.argmax())
        raw.append(measured[best] - true[best])
        cured.append(shrunken_means(measured.tolist(), [0.05**2] * 20)[best] - true[best])
    assert np.mean(raw) > 0.05
    assert abs(np.mean(cured)) < 0.015


@pytest.mark.parametrize(
    ("means", "variances", "expected"),
    [
        ([], [], []),
        ([0.9], [0.1], [0.9]),
        ([1.0, 0.5], [0.0, 0.0], [1.0, 0.5]),
        ([1.0, 0.6, 0.6], [0.0, 0.002, 0.002], [1.0, 0.6, 0.6]),  # what is known is not drawn away
        ([1.0, 0.5], [0.0, 1e6], [1.0, 1.0]),  # what is not known at all is
        ([-math.inf, 0.5], [0.125, 0.1], [-math.inf, 0.5]),
        ([-math.inf, 0.9, 0.9], [0.125, 0.1, 0.1], [-math.inf, 0.9, 0.9]),
    ],
)
def test_shrinking_at_its_edges(means: list[float], variances: list[float], expected: list[float]) -> None:
    given = np.array(means)
    assert shrunken_means(given, variances) == pytest.approx(expected, abs=0.01)
    assert given.tolist() == means


@pytest.mark.parametrize(
    ("means", "variances"),
    [([1, 0.5, 0.2], [0.1]), ([0.5], []), ([math.nan, 0.5], [0.1, 0.1]), ([1, 0.5], [-0.1, 0.1])],
)
def test_what_is_no_means_is_refused(means: list[float], variances: list[float]) -> None:
    with pytest.raises(ValueError, match="mean"):
        shrunken_means(means, variances)
