"""Is the gate's error what it says? Verdicts on programs whose true difference is known.

    python -m progspace.benchmarks.gate [--runs 4000]

- *made up*: 0/1 scores of two programs that disagree on a share of the rows, with a true difference; and graded scores:
  ``f1`` (half of the rows 0, the others spread), ``few`` (losses of a half on a few rows, and no other difference).
- *recorded*: pairs of programs of the recorded matrices (real answers of the embedded LM to 200 examples). The 200 are
  the population; rows are drawn from it with replacement, so that the true difference of a pair is known. For each
  margin those pairs whose true difference is that loss exactly, and those that are alike.

With a true loss of the margin, ``no worse`` is wrong; with no difference, ``worse`` is. Neither may be said more often
than alpha, 5 %. How often it cannot tell is the price.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.noninferiority import noninferiority
from .replay import recordings
from .results import RESULTS, write_results

__all__ = ["graded", "simulate"]

Array = NDArray[np.float64]

VERDICTS = ("no worse", "worse", "cannot tell")
ROWS = (50, 100, 200, 500, 2000)
MARGINS = (0.01, 0.03, 0.05)
PAIRS = 40


def graded(kind: str, rows: int, true: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draws graded scores of two programs.

    Args:
        kind: ``f1`` or ``few``.
        rows: How many.
        true: The true difference.
        generator: Of the draws.
    """
    if kind == "few":  # there are no gains
        return np.where(generator.random(rows) < -2 * true, 0.2, 0.7), np.full(rows, 0.7)

    def drawn(share: float) -> Array:
        return np.where(generator.random(rows) < share, generator.uniform(0.2, 1.0, rows), 0.0)

    return drawn(0.5 + true / 0.6), drawn(0.5)


def simulate(
    *, rows: int, margin: float, true: float, disagreement: float | str, runs: int, seed: int
) -> dict[str, float]:
    """Gives the share of each verdict.

    Args:
        rows: Of a comparison.
        margin: Of the gate.
        true: The true difference.
        disagreement: The share of rows on which 0/1 scores differ, or a kind of graded scores.
        runs: Comparisons.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    told: Counter[str] = Counter()
    if isinstance(disagreement, str):
        for _ in range(runs):
            one, other = graded(disagreement, rows, true, generator)
            told[noninferiority(one.tolist(), other.tolist(), margin=margin).verdict] += 1
    else:  # a verdict hangs on nothing but the table
        shares = [(disagreement + true) / 2, (disagreement - true) / 2, 1 - disagreement]
        for (wins, losses, ties), times in Counter(map(tuple, generator.multinomial(rows, shares, runs))).items():
            new = [1.0] * wins + [0.0] * losses + [1.0] * ties
            old = [0.0] * wins + [1.0] * losses + [1.0] * ties
            told[noninferiority(new, old, margin=margin).verdict] += times
    return {verdict: told[verdict] / runs for verdict in VERDICTS}


def _recorded(matrix: Array, rows: int, margin: float, true: float, runs: int, seed: int) -> dict[str, Any] | None:
    """The share of each verdict on pairs of a true difference; None where there are none."""
    generator = np.random.default_rng(seed)
    means = matrix.mean(axis=1)
    pairs = [
        pair
        for pair in permutations(range(len(matrix)), 2)
        if abs(means[pair[0]] - means[pair[1]] - true) < 1e-9 and (matrix[pair[0]] != matrix[pair[1]]).any()
    ]
    if not pairs:
        return None
    chosen = [pairs[i] for i in generator.permutation(len(pairs))[:PAIRS]]
    told: Counter[str] = Counter()
    for run in range(runs):
        new, old = chosen[run % len(chosen)]
        drawn = generator.integers(0, matrix.shape[1], rows)
        told[noninferiority(matrix[new, drawn].tolist(), matrix[old, drawn].tolist(), margin=margin).verdict] += 1
    return {"pairs": len(chosen), **{verdict: told[verdict] / runs for verdict in VERDICTS}}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the simulation; writes ``results/gate.jsonl`` as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    lines: list[dict[str, Any]] = []

    def told(source: str, margin: float, true: float, rows: int, shares: dict[str, Any]) -> None:
        lines.append({"source": source, "margin": margin, "true": true, "rows": rows, "runs": arguments.runs, **shares})
        rates = "".join(f"{100 * shares[verdict]:>12.1f}" for verdict in VERDICTS)
        write_results("gate", lines, arguments.results)  # it takes long, and may be stopped
        print(f"{source:36}{margin:>7}{true:>8.3f}{rows:>7}{rates}", flush=True)

    print(f"{'':36}{'margin':>7}{'true':>8}{'rows':>7}{''.join(f'{verdict:>12}' for verdict in VERDICTS)}")
    for margin in MARGINS:
        for kind in (0.05, 0.2, "f1", "few"):
            for true in (-2 * margin, -margin, 0.0):
                for rows in ROWS:
                    if isinstance(kind, float) and abs(true) > kind:
                        continue
                    if isinstance(kind, str) and (rows > 500 or (kind == "few" and true == 0)):
                        continue
                    shares = simulate(
                        rows=rows, margin=margin, true=true, disagreement=kind, runs=arguments.runs, seed=rows
                    )
                    source = kind if isinstance(kind, str) else f"disagreeing on {kind:.0%}"
                    told(f"made up, {source}", margin, true, rows, shares)
    for recording in recordings():
        for margin in MARGINS:
            for true in (-margin, 0.0):
                for rows in ROWS[1:3]:
                    found = _recorded(recording.scores, rows, margin, true, arguments.runs, rows)
                    if found is not None:
                        told(f"recorded, {recording.task}", margin, true, rows, found)


if __name__ == "__main__":
    main()
