from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progspace.evaluation.statistics import mean_interval, paired_test, shrunken_means

BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)
BOUNDED = st.lists(st.floats(0, 1), min_size=1, max_size=25)


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
    assert one.interval.low - 1e-9 <= one.difference <= one.interval.high + 1e-9
    if one.method == "exact McNemar":
        assert one.p_value == pytest.approx(other.p_value)
        assert one.interval.low == pytest.approx(-other.interval.high)


def test_equal_programs_differ_by_nothing() -> None:
    assert paired_test([1, 0, 1], [1, 0, 1]).p_value == 1.0
    assert paired_test([0.5, 0.25], [0.5, 0.25]).p_value == 1.0
    with pytest.raises(ValueError, match="same examples"):
        paired_test([1], [1, 0])
    with pytest.raises(ValueError, match="no scores"):
        mean_interval([])


@pytest.mark.parametrize("binary", [True, False])
def test_the_paired_test_and_interval_keep_their_levels(binary: bool) -> None:
    """Of two programs with a true difference of 0.1, the interval holds it; of equal ones, few are told apart."""
    rng = np.random.default_rng(3)
    held = told_apart = 0
    runs = 300
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
        told_apart += paired_test(a.astype(float), b.astype(float), seed=run).p_value < 0.05
    assert held / runs > 0.91
    assert told_apart / runs < 0.08


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
