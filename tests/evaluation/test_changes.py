from __future__ import annotations

import numpy as np
import pytest

from progspace.benchmarks.drift import delays, quiet_alarms
from progspace.evaluation.changes import Detector, alarms, bound_of, rank_bound


def test_quiet_streams_raise_no_more_alarms_than_said() -> None:
    """With a threshold that is reached now and then: 2,000 streams of 10,000 values, at most 10 % of them wrong."""
    assert 0.01 < quiet_alarms(0.9, 0.9, 10_000 / 0.1, 2_000, seed=5) <= 0.1


def test_a_drop_of_ten_points_is_found_within_300_calls() -> None:
    found, early = delays(Detector(0.95, 500), 0.95, 0.85, 1e6, 500, seed=3)
    assert early == 0
    assert np.mean(found <= 300) > 0.9


def test_graded_scores_and_rises_are_found_too() -> None:
    generator = np.random.default_rng(0)
    quiet, after = generator.uniform(0.6, 1.0, 2_000), generator.uniform(0.3, 0.9, 300)
    (first, *_) = alarms(np.r_[quiet, after], 0.78)
    assert 1_950 < first.since <= first.at < 2_300
    (first, *_) = alarms(1 - np.r_[quiet, after], 0.22, direction="up")
    assert (first.direction, first.at >= 2_000) == ("up", True)
    assert list(alarms(quiet, 0.78)) == []


def test_a_learnt_reference_holds_as_often_as_said() -> None:
    generator = np.random.default_rng(1)
    missed = [bound_of((generator.random(200) < 0.9).astype(float), error=0.05) > 0.9 for _ in range(1_000)]
    assert np.mean(missed) <= 0.07
    graded = [bound_of(generator.beta(8, 2, 200), error=0.05) > 0.8 for _ in range(1_000)]
    assert np.mean(graded) <= 0.07
    # Of the largest 20 of 200, the 20th: how many new ones lie beyond it?
    borders = np.sort(generator.random((2_000, 200)), axis=1)[:, -20]
    assert np.mean(1 - borders > rank_bound(200, 20, error=0.05)) == pytest.approx(0.05, abs=0.02)
