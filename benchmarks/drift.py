"""How soon is a drop of quality detected, and how often is there an alarm without one?

    python -m progspace.benchmarks.drift [--runs 500] [--quiet-runs 2000]

Streams of 0/1 scores of calls that somebody has judged. Quiet ones keep their accuracy for 10,000 calls: how many
raise an alarm, of which at most 1 % may. In others it drops by 10 points (also 5) after so many calls
(``before``): how many alarms come within 300 calls after it, and how many calls it takes. The reference is either known
(``declared``), or what the stream was before (``learnt``), as the monitor does it.

``best possible`` is a detector that knows both accuracies beforehand (the same sum of stakes, on the one drop that
comes), with its threshold set by simulation to alarms in 1 % of quiet streams: nothing that is wrong no more often can
be much faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.changes import Detector, LearningDetector
from .results import write_results

__all__ = ["delays", "main", "quiet_alarms"]

Array = NDArray[np.float64]

QUIET = 10_000
LONGEST = 3_000  # calls after the drop that are looked at
FALSE_ALARMS = 0.01
LEVELS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6)
CASES = [*((level, 0.1) for level in LEVELS), *((level, 0.05) for level in LEVELS[:4])]
BEFORE = (500, 2_000)


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


def quiet_alarms(detector: Any, accuracy: float, threshold: float, runs: int, seed: int) -> float:
    """The share of quiet streams with an alarm."""
    return float((_highest(detector, accuracy, runs, np.random.default_rng(seed)) >= threshold).mean())


def delays(
    detector: Any, accuracy: float, fallen: float, *, threshold: float, runs: int, before: int, seed: int
) -> tuple[Array, float]:
    """Calls from the drop to the alarm (inf where there is none), and the share of alarms before the drop, left out."""
    generator = np.random.default_rng(seed)
    found, early = np.full(runs, np.inf), np.zeros(runs, bool)
    for call in range(before + LONGEST):
        now = accuracy if call < before else fallen
        raised = detector.step((generator.random(runs) < now).astype(np.float64)) >= threshold
        if call < before:
            early |= raised
            continue
        found = np.where(raised & np.isinf(found), call - before + 1, found)
        if np.isfinite(found[~early]).all():
            break
    return found[~early], float(early.mean())


@cache
def _quiet(way: str, accuracy: float, runs: int) -> float:
    detector = LearningDetector(runs) if way == "learnt" else Detector(accuracy, runs)
    return quiet_alarms(detector, accuracy, QUIET / FALSE_ALARMS, runs, seed=2)


def simulate(accuracy: float, drop: float, runs: int, quiet_runs: int) -> list[dict[str, Any]]:
    """All detectors on one accuracy and one drop."""
    fallen, threshold = accuracy - drop, QUIET / FALSE_ALARMS
    oracle = _highest(_Oracle(accuracy, fallen, runs), accuracy, runs, np.random.default_rng(3))
    limit = float(np.quantile(oracle, 1 - FALSE_ALARMS))
    ways: list[tuple[str, Any, float, int]] = [
        ("best possible", _Oracle(accuracy, fallen, runs), limit, BEFORE[0]),
        ("declared", Detector(accuracy, runs), threshold, BEFORE[0]),
        *(("learnt", LearningDetector(runs), threshold, before) for before in BEFORE),
    ]
    lines = []
    for way, detector, least, before in ways:
        taken, early = delays(detector, accuracy, fallen, threshold=least, runs=runs, before=before, seed=1)
        quiet = FALSE_ALARMS if way == "best possible" else _quiet(way, accuracy, quiet_runs)
        median, late = float(np.median(taken)), float(np.quantile(taken, 0.9, method="higher"))
        lines.append({
            "reference": way, "accuracy": accuracy, "drop": drop, "before": before, "runs": runs,
            "quiet_alarms": quiet, "quiet_runs": runs if way == "best possible" else quiet_runs,
            "early": round(early, 5),
            "within_300": round(float((taken <= 300).mean()), 4),
            "median_calls": median if np.isfinite(median) else None,
            "p90_calls": late if np.isfinite(late) else None,
        })  # fmt: skip
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="streams of each kind that drop")
    parser.add_argument("--quiet-runs", type=int, default=2000, help="streams of each kind that do not")
    told = parser.parse_args(arguments)
    kept = []
    for accuracy, drop in CASES:
        for line in simulate(accuracy, drop, told.runs, told.quiet_runs):
            print(line, flush=True)
            kept.append({"task": "simulated", **line})
    write_results("drift", kept)


if __name__ == "__main__":
    main()
