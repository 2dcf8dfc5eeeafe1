"""Detects that the mean of a stream has changed, with a bound on false alarms however long one looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kl_div, xlogy

__all__ = ["Alarm", "Detector", "Direction", "LearningDetector", "alarms"]

Array = NDArray[np.float64]

Direction = Literal["down", "up"]

_SHIFTS = np.array([0.05, 0.1, 0.2, 0.4])
"""Falls of the mean that are bet on, each with some of the capital; falls in between are found almost as well."""
_SHARES = np.array([0.2, 0.4, 0.2, 0.2])
_LEAST = 1e-3  # a mean that a fall is never taken to reach
_MOST = 1 - 1e-9  # a reference of 1: beside it any other value would be impossible, whatever came before it


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change that was detected.

    Attributes:
        at: Index of the value that raised it.
        since: Index of the value at which the change most likely began.
        direction: Where the mean went.
    """

    at: int
    since: int
    direction: Direction


class Detector:
    """An e-detector of the Shiryaev–Roberts kind: of many streams at a time, or of one.

    The null is that each value's mean, given those before it, is at least the reference. A bet on a fall, of values in
    [0, 1], multiplies its stake by ``1 + λ (reference − value)``: under the null at most 1 in expectation, whatever the
    distribution. With one stake put in before each value, what all stakes have become together, less their number, is a
    supermartingale. So (`Shin, Ramdas & Rinaldo 2022 <https://arxiv.org/abs/2203.03532>`_) the mean time to a false
    alarm is at least the threshold; and, by optional stopping, the probability of one within n values is at most n
    divided by the threshold. λ is what is best for a fall of 5, 10, 20 or 40 points of a share; evidence is the average
    over them.

    Args:
        reference: The least mean that is no change; a number, or one a stream.
        streams: How many.

    Attributes:
        evidence: Of each stream, after the last value; to be held against a threshold.

    >>> detector = Detector(0.9)
    >>> for _ in range(12):
    ...     evidence = detector.step(0.0)
    >>> bool(evidence[0] > 1e6)
    True
    """

    def __init__(self, reference: ArrayLike, streams: int = 1) -> None:
        means = np.broadcast_to(np.asarray(reference, np.float64), (streams,))
        if not ((means > 0) & (means <= 1)).all():
            raise ValueError("a reference is more than 0 and at most 1")
        self._means = np.minimum(means, _MOST)
        fallen = np.maximum(self._means[:, None] - _SHIFTS, np.minimum(_LEAST, self._means[:, None] / 2))
        self._bets = (self._means[:, None] - fallen) / (self._means * (1 - self._means))[:, None]
        self.restart()

    def restart(self) -> None:
        """Forgets all evidence."""
        shape = self._bets.shape
        self._stakes: Array = np.zeros(shape)
        self.evidence: Array = np.zeros(shape[0])

    def step(self, values: ArrayLike) -> Array:
        """Takes the next value of each stream, in [0, 1]; gives the evidence."""
        given = np.broadcast_to(np.asarray(values, np.float64), self._means.shape)
        grown = np.maximum(1 + self._bets * (self._means - given)[:, None], 0.0)
        self._stakes = np.minimum((self._stakes + 1) * grown, 1e300)
        self.evidence = self._stakes @ _SHARES
        return self.evidence


class LearningDetector:
    """An e-detector of falls from a mean that nobody knows: of many streams at a time, or of one.

    The null is that 0/1 values are independent draws of one coin, whatever its side's share. Before each value one
    stake is put in: worth what has been seen so far under a mixture of coins (`Krichevsky & Trofimov 1981
    <https://doi.org/10.1109/TIT.1981.1056331>`_), and betting from there on that the share is 5, 10, 20 or 40 points
    below what was seen. All stakes together are held against the coin that fits everything best. As that is no less
    likely than the true one, the bounds of `Detector` hold (universal inference, `Wasserman, Ramdas & Balakrishnan 2020
    <https://arxiv.org/abs/1912.11436>`_), with no window to learn from. A change that comes after few values is found
    late, or not at all: they might have been luck.

    Args:
        streams: How many.

    Attributes:
        evidence: Of each stream, after the last value; to be held against a threshold.

    >>> detector = LearningDetector()
    >>> for value in [1.0] * 200 + [0.0] * 12:
    ...     evidence = detector.step(value)
    >>> bool(evidence[0] > 1e6)
    True
    """

    def __init__(self, streams: int = 1) -> None:
        self._streams = streams
        self._coins = np.linspace(0.01, 0.99, 50)
        self._sides = np.stack([1 - self._coins, self._coins])
        self.restart()

    def restart(self) -> None:
        """Forgets all that was seen."""
        # In units of what has been seen so far under the mixture.
        self._stakes: Array = np.zeros((self._streams, self._coins.size))
        self._seen = 0
        self._good: Array = np.zeros(self._streams)
        self._mixture: Array = np.zeros(self._streams)
        self.evidence: Array = np.zeros(self._streams)

    def step(self, values: ArrayLike) -> Array:
        """Takes the next value of each stream, 0 or 1; gives the evidence."""
        good = np.asarray(values, np.float64).reshape(-1) > 0.5
        expected = (self._good + 0.5) / (self._seen + 1)
        rows = np.arange(self._streams)
        for shift, share in zip(_SHIFTS, _SHARES, strict=True):
            self._stakes[rows, np.maximum((expected - shift) * 51 - 1, 0).astype(np.int64)] += share
        likely = np.where(good, expected, 1 - expected)
        self._stakes *= self._sides[good.astype(np.int64)] / likely[:, None]
        np.minimum(self._stakes, 1e300, out=self._stakes)
        self._seen += 1
        self._good = self._good + good
        self._mixture = self._mixture + np.log(likely)
        bad = self._seen - self._good
        fitting = xlogy(self._good, self._good / self._seen) + xlogy(bad, bad / self._seen)
        self.evidence = self._stakes.sum(axis=1) * np.exp(self._mixture - fitting)
        return self.evidence


def alarms(
    values: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    direction: Direction = "down",
    false_alarms: float = 0.01,
    within: int = 10_000,
) -> Iterator[Alarm]:
    """Gives the alarms of a stream; after each it begins anew.

    Args:
        values: In [0, 1], in their order. Where the reference is learnt, those in between are rounded at odds that
            keep their mean, by a seeded draw. Or rows of several numbers that tell of the same: their evidence is
            averaged.
        reference: The least mean that is no change (with ``up``, the largest), or that of each of several numbers;
            None: what the stream was before.
        direction: Of the change.
        false_alarms: The largest probability of a false alarm …
        within: … among so many values without a change.

    Raises:
        ValueError: The reference is out of range.

    >>> quiet, fallen = [1, 1, 1, 1, 0] * 100, [1, 0] * 100
    >>> [alarm.since >= 495 for alarm in alarms(quiet + fallen, 0.8)][0]
    True
    """
    given = np.asarray(values, np.float64)
    least = None if reference is None else np.atleast_1d(np.asarray(reference, np.float64))
    if direction == "up":
        given, least = 1 - given, None if least is None else 1 - least
    if least is None:
        given = (np.random.default_rng(0).random(given.size) < given).astype(np.float64)
    if (given == 1).all():
        return  # nothing is below anything: most rates of faults
    rows = given.reshape(len(given), -1)
    detector = LearningDetector() if least is None else Detector(least, rows.shape[1])
    start, threshold = 0, within / false_alarms
    for index, row in enumerate(rows):
        evidence = detector.step(row)
        if evidence.mean() >= threshold:
            best = int(np.argmax(evidence))
            since = _change(rows[start : index + 1, best], None if least is None else min(float(least[best]), _MOST))
            yield Alarm(index, start + since, direction)
            detector.restart()
            start = index + 1


def _change(values: Array, reference: float | None) -> int:
    """Gives the index at which a fall most likely began: the one of the highest likelihood ratio, as of 0/1 values."""
    after = np.arange(values.size, 0, -1)
    below = np.cumsum(values[::-1])[::-1] / after
    before = np.arange(values.size)
    above = np.r_[values[0], np.cumsum(values)[:-1] / np.maximum(before[1:], 1)] if reference is None else reference
    mean = values.mean() if reference is None else reference
    gain = after * kl_div(below, mean) + after * kl_div(1 - below, 1 - mean)
    if reference is None:
        gain = gain + before * (kl_div(above, mean) + kl_div(1 - above, 1 - mean))
    return int(np.argmax(np.where(below < mean, gain, -np.inf)))
