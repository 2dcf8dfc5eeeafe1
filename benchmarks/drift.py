"""How soon is a drop of quality detected, and how often is there an alarm without one?

    python -m progspace.benchmarks.drift [--runs 2000]

Streams of 0/1 scores of calls that somebody has judged. Quiet ones keep their accuracy for 10,000 calls: how many
raise an alarm, of which at most 1 % may. In others it drops by 10 points (also 5 and 20) after 500 calls: how many alarms come
within 300 calls after it, and how many calls it takes. The reference is either known (what an artifact declares), or
learnt: the lower bound from the first 200 or 1,000 calls, as the monitor does it; then the bound is missed with a
probability of 0.5 %, and the detector is wrong with 0.5 %.

``best possible`` is a detector that knows both accuracies beforehand (the same sum of stakes, on the one drop that
comes), with its threshold set by simulation to alarms in 1 % of quiet streams: nothing that is wrong no more often can
be much faster. Where the reference is learnt, the drop comes 500 calls after that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.changes import Detector, bound_of
from .results import write_results

__all__ = ["delays", "main", "quiet_alarms"]

Array = NDArray[np.float64]

QUIET = 10_000
BEFORE = 500
LONGEST = 3_000  # calls after the drop that are looked at
FALSE_ALARMS = 0.01
LEVELS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6)
DROPS = (0.1, 0.05, 0.2)
WINDOWS = (200, 1000)


class _Oracle:
    """Bets on the very drop that comes."""

    def __init__(self, accuracy: float, fallen: float, streams: int) -> None:
        self._right, self._wrong = fallen / accuracy, (1 - fallen) / (1 - accuracy)
        self._stakes = np.zeros(streams)

    def step(self, values: Array) -> Array:
        self._stakes = np.minimum((self._stakes + 1) * np.where(values > 0, self._right, self._wrong), 1e300)
        return self._stakes


def _highest(detector: Any, accuracy: float, runs: int, generator: np.random.Generator) -> Array:
    """The most evidence in each quiet stream."""
    highest = np.zeros(runs)
    for _ in range(QUIET):
        highest = np.maximum(highest, detector.step((generator.random(runs) < accuracy).astype(np.float64)))
    return highest


def quiet_alarms(reference: Array | float, accuracy: float, threshold: float, runs: int, seed: int) -> float:
    """The share of quiet streams with an alarm."""
    detector = Detector(reference, runs)
    return float((_highest(detector, accuracy, runs, np.random.default_rng(seed)) >= threshold).mean())


def delays(
    detector: Any, accuracy: float, fallen: float, threshold: float, runs: int, seed: int
) -> tuple[Array, float]:
    """Calls from the drop to the alarm (inf where there is none), and the share of alarms before the drop, left out."""
    generator = np.random.default_rng(seed)
    found, early = np.full(runs, np.inf), np.zeros(runs, bool)
    for call in range(BEFORE + LONGEST):
        now = accuracy if call < BEFORE else fallen
        raised = detector.step((generator.random(runs) < now).astype(np.float64)) >= threshold
        if call < BEFORE:
            early |= raised
        else:
            found = np.where(raised & np.isinf(found), call - BEFORE + 1, found)
    return found[~early], float(early.mean())


def _windows(size: int, accuracy: float, runs: int, error: float, seed: int) -> Array:
    """References that are learnt from so many calls, one a stream."""
    good = np.random.default_rng(seed).binomial(size, accuracy, runs)
    known = {int(each): bound_of(np.r_[np.ones(each), np.zeros(size - each)], error=error) for each in set(good)}
    return np.array([known[int(each)] for each in good])


def simulate(accuracy: float, drop: float, runs: int, seed: int = 0) -> list[dict[str, Any]]:
    """All detectors on one accuracy and one drop."""
    fallen = accuracy - drop
    generator = np.random.default_rng(seed + 3)
    limit = float(np.quantile(_highest(_Oracle(accuracy, fallen, runs), accuracy, runs, generator), 1 - FALSE_ALARMS))
    ways: list[tuple[str, Any, float, float | None]] = [
        ("best possible", _Oracle(accuracy, fallen, runs), limit, None),
        ("declared", Detector(accuracy, runs), QUIET / FALSE_ALARMS, None),
    ]
    for size in WINDOWS:
        references = _windows(size, accuracy, runs, FALSE_ALARMS / 2, seed + size)
        ways.append((f"first {size:,}", Detector(references, runs), 2 * QUIET / FALSE_ALARMS, size))
    lines = []
    for way, detector, threshold, learnt in ways:
        taken, early = delays(detector, accuracy, fallen, threshold, runs, seed + 1)
        quiet: float | None = None
        if way != "best possible":
            means: Any = (
                accuracy if learnt is None else _windows(learnt, accuracy, runs, FALSE_ALARMS / 2, seed + learnt)
            )
            quiet = quiet_alarms(means, accuracy, threshold, runs, seed + 2)
        median = float(np.median(taken))
        lines.append({
            "reference": way, "accuracy": accuracy, "drop": drop, "runs": runs,
            "quiet_alarms": FALSE_ALARMS if quiet is None else round(quiet, 5),
            "early": round(early, 5),
            "within_300": round(float((taken <= 300).mean()), 4),
            "median_calls": median if np.isfinite(median) else None,
            "p90_calls": value if np.isfinite(value := float(np.quantile(taken, 0.9, method="higher"))) else None,
        })  # fmt: skip
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="streams of each kind")
    runs = parser.parse_args(arguments).runs
    kept = []
    for drop in DROPS:
        for accuracy in LEVELS:
            for line in simulate(accuracy, drop, runs):
                print(line, flush=True)
                kept.append({"task": "simulated", **line})
    write_results("drift", kept)


if __name__ == "__main__":
    main()
