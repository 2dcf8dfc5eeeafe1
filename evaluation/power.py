"""What so many examples can tell: the smallest gain that is seen, and whether there is room for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import stats

from . import numbers
from .statistics import Interval, mean_interval

__all__ = ["Headroom", "advice", "detectable_gain", "label_note", "power_of"]

DISCORDANCE = 0.2
"""The share of examples on which two programs disagree, where nothing is known. In the recorded matrix of the movie
reviews (64 programs, 200 examples) the median is 0.14 within the best quarter, and 0.28 between the best and all."""
_STEPS = 40


@lru_cache(maxsize=4096)
def power_of(gain: float, n: int, discordance: float, level: float = 0.05) -> float:
    """Gives the chance that McNemar's exact test finds a gain on n paired examples, two-sided, in the right direction.

    Summed exactly over how many pairs disagree and how many of these are won (`Duffy 1984
    <https://doi.org/10.2307/2530923>`_).

    Args:
        gain: The first program's true mean minus the second's, of 0/1 scores.
        n: Examples.
        discordance: The share of examples on which the two disagree; at least the gain.
        level: Of the test.

    >>> round(power_of(0.15, 100, 0.3), 2)
    0.75
    """
    if not 0 <= gain <= discordance <= 1:
        raise ValueError(f"a gain of {gain:g} needs a discordance from {gain:g} to 1, and not {discordance:g}")
    if discordance == 0:
        return 0.0
    disagreeing = np.arange(n + 1)
    chance = stats.binom.pmf(disagreeing, n, discordance)
    likely = disagreeing[chance > 1e-9]
    won = (1 + gain / discordance) / 2
    found = stats.binom.sf(_needed(n, level)[likely] - 1, likely, won)
    return float((chance[likely] * found).sum())


@lru_cache(maxsize=256)
def _needed(n: int, level: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each number of pairs that disagree: how many must be won for the test to reject; more than all where none."""
    pairs = np.arange(n + 1)
    needed: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        np.asarray(stats.binom.isf(level / 2, pairs, 0.5), np.int64) + 1
    )
    return needed


def detectable_gain(
    n: int, *, discordance: float = DISCORDANCE, level: float = 0.05, power: float = 0.8, spread: float | None = None
) -> float:
    """Gives the smallest paired gain that n examples can tell from luck.

    Of 0/1 scores by McNemar's exact test; of other scores, whose ``spread`` is given, by the normal approximation.
    Programs that disagree on more examples need a larger gain to be told apart; a gain that is larger than the
    discordance implies as much of it.

    Args:
        n: Examples on which both programs are scored.
        discordance: The share of examples on which they disagree, where the gain itself is not larger.
        level: Of the two-sided test.
        power: The chance with which the gain is to be found.
        spread: The standard deviation of the paired differences, for scores that are not 0 or 1.

    Returns:
        The gain; ∞ where no gain can be told: five examples can never reach p < 0.05.

    Raises:
        ValueError: A number is out of its range.

    >>> [round(detectable_gain(n), 3) for n in (5, 80, 2000)]
    [inf, 0.142, 0.028]
    """
    if n < 0 or not 0 <= discordance <= 1 or not 0 < level < 1 or not level < power < 1:
        raise ValueError("n is not negative, discordance and level are shares, and power lies between level and 1")
    if spread is not None:
        quantiles = float(stats.norm.isf(level / 2) + stats.norm.isf(1 - power))
        return quantiles * spread / math.sqrt(n) if n >= 3 else math.inf
    low, high = 0.0, 1.0
    if power_of(1.0, n, 1.0, level) < power:
        return math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if power_of(middle, n, max(discordance, middle), level) < power:
            low = middle
        else:
            high = middle
        if high - low < 1e-4:
            break
    return high


@dataclass(frozen=True, slots=True)
class Headroom:
    """Whether a search can be worth what it costs.

    Attributes:
        baseline: The score of the program as declared; None before it is known.
        interval: Of that.
        headroom: How much can be gained at most; None before the baseline is known.
        dev_gain: The smallest gain that the dev examples tell from luck.
        test_gain: The smallest gain that the sealed test tells from luck; None where that was not asked.
        dev_rows: Examples in dev.
        test_rows: Examples in the sealed test; None where that was not asked.
        worth_it: False where even a perfect program could not be told from the baseline.
        text: All of this for a person.
    """

    baseline: float | None
    interval: Interval | None
    headroom: float | None
    dev_gain: float
    test_gain: float | None
    dev_rows: int
    test_rows: int | None
    worth_it: bool
    text: str


def advice(baseline: Sequence[float], dev_n: int, test_n: int | None = None, *, best: float = 1.0) -> Headroom:
    """Tells whether to search, from the baseline's scores and the size of the data, before anything is spent on it.

    A search is not worth it where a perfect program's gain is smaller than what the dev examples can tell, or than what
    the sealed test can: whatever it found could not be shown. Where the baseline was run on a part of dev only, it is
    given the benefit of the doubt: its room is counted from the lower end of its interval. Programs that are nearly
    always right seldom disagree: on twice the baseline's errors at most.

    Args:
        baseline: Scores of the program as declared on dev examples; empty where none are known yet.
        dev_n: Examples in dev.
        test_n: Examples in the sealed test that will be read; None to weigh dev alone.
        best: The highest score that the metric gives; ∞ where that is not known.

    >>> print(advice([1.0] * 75 + [0.0] * 5, 80, 120).text)
    80 dev rows tell a gain of 11.0 points or more from luck, 120 test rows one of 9.2. The baseline is at 93.8 %, and
    there are 6.2 points above it. Do not spend: no gain that a search finds could be told from luck.
    """
    scores = np.asarray(baseline, np.float64)
    binary = bool(np.isin(scores, (0.0, 1.0)).all())
    mean = interval = room = spread = None
    discordance, above = DISCORDANCE, ""
    if scores.size:
        mean, interval = float(scores.mean()), mean_interval(scores.tolist())
        room = max(0.0, best - (mean if scores.size >= dev_n else interval.low))
        # Of other scores: two programs that spread alike and agree half way, at a correlation of 0.5.
        spread = None if binary or scores.size < 2 else float(scores.std(ddof=1)) or None
        discordance = min(discordance, 2 * room)
        above = _told_room(scores.size, dev_n, mean, interval, room)
    smallest = partial(detectable_gain, discordance=discordance, spread=spread)
    needed = dev_gain = smallest(dev_n)
    say = _plain if math.isfinite(best) else numbers.figure
    text, test_gain = f"{_rows(dev_n, 'dev')} tell {_told(dev_gain, say)}", None
    if test_n is not None:
        test_gain = smallest(test_n)
        needed = max(dev_gain, test_gain)
        text += f", {_rows(test_n, 'test')} {_told(test_gain, say, short=True)}"
    text += f".{above}"
    worth_it = needed <= (best if room is None else room)
    if math.isinf(needed):
        text += " Do not spend: give more examples first."
    elif not worth_it:
        text += " Do not spend: no gain that a search finds could be told from luck."
    return Headroom(
        baseline=mean,
        interval=interval,
        headroom=room,
        dev_gain=dev_gain,
        test_gain=test_gain,
        dev_rows=dev_n,
        test_rows=test_n,
        worth_it=worth_it,
        text=text,
    )


def label_note(labels: Sequence[Hashable], name: str = "dev") -> str | None:
    """Gives a note where labels are all alike: a program that always says the same is then perfect.

    Args:
        labels: Of the examples.
        name: Of the split.

    >>> label_note(["glad"] * 40)
    "All 40 dev rows have the label 'glad': a program that never says anything else scores full marks."
    """
    if len(labels) < 2 or len(set(labels)) > 1:
        return None
    return (
        f"All {numbers.count(len(labels))} {name} rows have the label {labels[0]!r}: "
        "a program that never says anything else scores full marks."
    )


def _rows(n: int, name: str) -> str:
    return f"{n:,} {name} row{'' if n == 1 else 's'}"


def _told(gain: float, say: Callable[[float], str], *, short: bool = False) -> str:
    if math.isinf(gain):
        return "none" if short else "no gain from luck"
    return f"one of {say(gain).removesuffix(' points')}" if short else f"a gain of {say(gain)} or more from luck"


def _told_room(n: int, dev_n: int, mean: float, interval: Interval, room: float) -> str:
    if math.isinf(room):
        return f" The baseline is at {numbers.figure(mean)}, and what the metric gives at most is not known."
    if n < dev_n:
        between = numbers.interval(interval)
        return f" On {n} of them the baseline is at {numbers.percent(mean)} [{between}]: up to {_plain(room)} are left."
    there = f"there are {_plain(room)}" if room else "nothing is"
    return f" The baseline is at {numbers.percent(mean)}, and {there} above it."


def _plain(gain: float) -> str:
    return f"{100 * gain:.1f} points"
