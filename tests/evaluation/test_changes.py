from __future__ import annotations

import numpy as np

from progspace.benchmarks.drift import delays, quiet_alarms
from progspace.evaluation.changes import Detector, LearningDetector, alarms


def test_quiet_streams_raise_no_more_alarms_than_said() -> None:
    """With a threshold that is reached now and then: 2,000 streams of 10,000 values, at most 10 % of them wrong."""
    assert 0.01 < quiet_alarms(Detector(0.9, 2_000), 0.9, 10_000 / 0.1, 2_000, seed=5) <= 0.1


def test_a_drop_of_ten_points_is_found_within_300_calls() -> None:
    found, early = delays(Detector(0.95, 500), 0.95, 0.85, threshold=1e6, runs=500, before=500, seed=3)
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
    (only,) = alarms(np.r_[quiet, after])
    assert 1_950 < only.since <= only.at < 2_300


def test_a_drop_from_what_was_before_is_found_too_but_seldom_where_there_is_none() -> None:
    found, early = delays(LearningDetector(100), 0.95, 0.85, threshold=1e6, runs=100, before=1_500, seed=3)
    assert early == 0
    assert np.median(found) <= 300
    short = np.random.default_rng(0).random((1_000, 1_000)) < 0.9  # 1,000 values, at most 20 % wrong
    detector, highest = LearningDetector(1_000), np.zeros(1_000)
    for values in short.T:
        highest = np.maximum(highest, detector.step(values))
    assert 0 < np.mean(highest >= 1_000 / 0.2) <= 0.2
