"""Detects that the mean of a stream has changed, with a bound on false alarms however long one looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

__all__ = ["Alarm", "Detector", "Direction", "alarms", "bound_of", "rank_bound"]

Array = NDArray[np.float64]

Direction = Literal["down", "up"]

_SHIFTS = np.array([0.05, 0.1, 0.2, 0.4])
"""Falls of the mean that are bet on, each with some of the capital; falls in between are found almost as well."""
_SHARES = np.array([0.2, 0.4, 0.2, 0.2])
_LEAST = 1e-3  # a mean that a fall is never taken to reach


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
        self._means = np.minimum(means, 1 - 1e-9)
        fallen = np.maximum(self._means[:, None] - _SHIFTS, np.minimum(_LEAST, self._means[:, None] / 2))
        self._bets = (self._means[:, None] - fallen) / (self._means * (1 - self._means))[:, None]
        self.restart()

    def restart(self) -> None:
        """Forgets all evidence."""
        shape = self._bets.shape
        self._stakes: Array = np.zeros(shape)
        self._best: Array = np.ones(shape)
        self._since = np.zeros(shape, np.int64)
        self._seen = 0
        self.evidence: Array = np.zeros(shape[0])

    def step(self, values: ArrayLike) -> Array:
        """Takes the next value of each stream, in [0, 1]; gives the evidence."""
        given = np.broadcast_to(np.asarray(values, np.float64), self._means.shape)
        grown = np.maximum(1 + self._bets * (self._means - given)[:, None], 0.0)
        self._stakes = np.minimum((self._stakes + 1) * grown, 1e300)
        # The best single stake tells when the change began: it was put in when those before it were worth less than it.
        anew = self._best <= 1
        self._since = np.where(anew, self._seen, self._since)
        self._best = np.minimum(np.where(anew, 1.0, self._best) * grown, 1e300)
        self._seen += 1
        self.evidence = self._stakes @ _SHARES
        return self.evidence

    def since(self, stream: int = 0) -> int:
        """Gives the index, from the last restart, of the value at which a change most likely began."""
        return int(self._since[stream, int(np.argmax(self._best[stream] * _SHARES))])


def alarms(
    values: ArrayLike,
    reference: float,
    *,
    direction: Direction = "down",
    false_alarms: float = 0.01,
    within: int = 10_000,
) -> Iterator[Alarm]:
    """Gives the alarms of a stream; after each it begins anew.

    Args:
        values: In [0, 1], in their order.
        reference: The least mean that is no change; with ``up``, the largest.
        direction: Of the change.
        false_alarms: The largest probability of a false alarm …
        within: … among so many values without a change.

    >>> quiet, fallen = [1, 1, 1, 1, 0] * 100, [1, 0] * 100
    >>> [alarm.since for alarm in alarms(quiet + fallen, 0.8)][0] >= 495
    True
    """
    given = np.asarray(values, np.float64)
    if direction == "up":
        given, reference = 1 - given, 1 - reference
    detector, start = Detector(reference), 0
    threshold = within / false_alarms
    for index, value in enumerate(given):
        if detector.step(value)[0] >= threshold:
            yield Alarm(index, start + detector.since(), direction)
            detector.restart()
            start = index + 1


def bound_of(values: ArrayLike, *, direction: Direction = "down", error: float) -> float:
    """Gives a mean that the values' own is not below (with ``down``), or not above, but with so small a probability.

    Exact for 0/1 values (Clopper–Pearson); for others in [0, 1] they are rounded at random odds, seeded, which keeps
    the mean and the promise, and costs some width.

    >>> round(bound_of([1.0] * 90 + [0.0] * 10, error=0.005), 2)
    0.8
    """
    given = np.asarray(values, np.float64)
    if direction == "up":
        return 1 - bound_of(1 - given, error=error)
    if not np.isin(given, (0.0, 1.0)).all():
        given = (np.random.default_rng(0).random(given.size) < given).astype(np.float64)
    good = int(given.sum())
    return 0.0 if good == 0 else float(beta.ppf(error, good, given.size - good + 1))


def rank_bound(size: int, rank: int, *, error: float) -> float:
    """Gives the largest share of new values beyond the ``rank`` largest of ``size``, but with so small a probability.

    The share beyond an order statistic is Beta-distributed whatever the (continuous) distribution is.

    >>> round(rank_bound(200, 20, error=0.005), 3)
    0.163
    """
    return float(beta.ppf(1 - error, rank, size - rank + 1))
