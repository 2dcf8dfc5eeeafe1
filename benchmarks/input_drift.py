"""How soon is it told that inputs are no longer those that a program was compiled for, and how often without a reason?

    python -m progspace.benchmarks.input_drift --data FOLDER [--runs 200] [--quiet-runs 500]

Real texts, embedded by all-MiniLM-L6-v2: a third of 300 is train. The rest of a data set is a population, from which
dev (100) and calls are drawn with replacement. Quiet streams have 10,000 calls of their own kind: how many raise an
alarm, of which at most 1 % may. In others a share of the calls is of another kind after so many calls (``before``):
how many alarms come within 300 calls, and how many calls it takes. Reference: dev (``known``), or the first 500 calls,
which are not counted (``first calls``). Ranks and detector are those of ``ps.monitor``.

Kinds: film reviews; questions to a bank, of every other intent; of the intents in between; questions about an
encyclopedia; mathematical problems; and negative film reviews alone, which are strange to nobody.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from numpy.typing import NDArray

import progspace as ps

from ..evaluation.changes import Detector
from ..monitoring.inputs import LEVELS, Strangeness, p_values
from .results import write_results
from .tasks import read_lines

__all__ = ["main", "quiet_alarms", "taken"]

Array = NDArray[np.float64]

QUIET = 10_000
THRESHOLD = QUIET / 0.01
LONGEST = 2_000  # calls after the change that are looked at
EXAMPLES, DEV, WINDOW = 300, 100, 500
ROWS = 1_500  # of a kind
WAYS = (("known", 0), ("known", 500), ("known", 2_000), ("first calls", 500))
SHARES = (0.1, 0.3, 1.0)
PAIRS = (
    ("film reviews", "bank questions"), ("film reviews", "mathematical problems"),
    ("film reviews", "encyclopedia questions"), ("bank questions", "bank questions, other intents"),
    ("film reviews", "film reviews, negative"),
)  # fmt: skip


def texts(data: Path) -> dict[str, list[str]]:
    """Texts by their kind, in an order that a seed has drawn."""
    names = ("movie-sentiment", "banking77", "squad-mini", "gsm8k")
    films, bank, encyclopedia, mathematics = (read_lines(data / name / "train.jsonl") for name in names)
    intents = sorted({row["intent"] for row in bank})
    found = {
        "film reviews": [row["text"] for row in films],
        "film reviews, negative": [row["text"] for row in films if row["label"] == "negative"],
        "bank questions": [row["text"] for row in bank if row["intent"] in intents[::2]],
        "bank questions, other intents": [row["text"] for row in bank if row["intent"] in intents[1::2]],
        "encyclopedia questions": [row["question"] for row in encyclopedia],
        "mathematical problems": [row["question"] for row in mathematics],
    }
    draw = np.random.default_rng(0)
    return {kind: [own[at] for at in draw.permutation(len(own))[:ROWS]] for kind, own in found.items()}


def strangeness(found: Mapping[str, list[str]], home: str, foreign: Sequence[str]) -> dict[str, Array]:
    """How strange texts of each kind are to a program that was compiled for some of the first."""
    task = ps.Task(
        program=dspy.Predict("text -> label"), inputs=["text"], metric=ps.metrics.exact_match("label"), name=home,
        examples=[{"text": text, "label": ""} for text in found[home][:EXAMPLES]], seed=0,
    )  # fmt: skip
    strange, seen = Strangeness(task), {example.text for example in task.train}
    return {kind: strange.of([{"text": text} for text in found[kind] if text not in seen]) for kind in (home, *foreign)}


def _ranks(home: Array, foreign: Array, way: str, before: int, after: int, share: float, runs: int, seed: int) -> Array:
    """Ranks of calls in so many streams, as the monitor has them."""
    generator = np.random.default_rng(seed)
    quiet = before + (WINDOW if way == "first calls" else 0)
    rows = []
    for run in range(runs):
        usual, strange = generator.choice(home, quiet + after), generator.choice(foreign, quiet + after)
        replaced = (generator.random(quiet + after) < share) & (np.arange(quiet + after) >= quiet)
        known, calls = generator.choice(home, DEV), np.where(replaced, strange, usual)
        if way == "first calls":
            known, calls = calls[:WINDOW], calls[WINDOW:]
        rows.append(p_values(calls, known, seed=run))
    return np.array(rows)


def _evidence(ranks: Array) -> Iterator[Array]:
    """What is held against the threshold in each stream, call by call."""
    levels = np.array(LEVELS)
    detector = Detector(np.tile(1 - levels, len(ranks)), len(ranks) * levels.size)
    for now in ranks.T:
        yield detector.step((now[:, None] > levels).astype(np.float64).ravel()).reshape(len(ranks), -1).mean(axis=1)


def taken(ranks: Array, before: int) -> tuple[Array, float]:
    """Calls from the change to the alarm (inf where there is none), and the share of alarms before, left out."""
    found, early = np.full(len(ranks), np.inf), np.zeros(len(ranks), bool)
    for call, evidence in enumerate(_evidence(ranks)):
        raised = evidence >= THRESHOLD
        if call < before:
            early |= raised
        else:
            found = np.where(raised & np.isinf(found), call - before + 1, found)
    return found[~early], float(early.mean())


def quiet_alarms(home: Array, way: str, runs: int, seed: int) -> float:
    """The share of streams of usual inputs with an alarm."""
    highest = np.zeros(runs)
    for evidence in _evidence(_ranks(home, home, way, 0, QUIET, 0.0, runs, seed)):
        highest = np.maximum(highest, evidence)
    return float((highest >= THRESHOLD).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of public data")
    parser.add_argument("--runs", type=int, default=200, help="streams of each kind that change")
    parser.add_argument("--quiet-runs", type=int, default=500, help="streams of each kind that do not")
    told = parser.parse_args(arguments)
    found, kept = texts(told.data), list[dict[str, Any]]()

    def keep(**line: Any) -> None:
        kept.append({"task": "input drift", **line})
        print(kept[-1], flush=True)

    for home in dict.fromkeys(home for home, _ in PAIRS):
        others = [foreign for own, foreign in PAIRS if own == home]
        strange = strangeness(found, home, others)
        for way in ("known", "first calls"):
            quiet = quiet_alarms(strange[home], way, told.quiet_runs, seed=2)
            keep(home=home, reference=way, share=0.0, quiet_runs=told.quiet_runs, quiet_alarms=quiet)
        for foreign in others:
            for share in SHARES:
                for way, before in WAYS:
                    ranks = _ranks(strange[home], strange[foreign], way, before, LONGEST, share, told.runs, seed=1)
                    calls, early = taken(ranks, before)
                    median, late = np.median(calls), np.quantile(calls, 0.9, method="higher")
                    keep(
                        home=home, foreign=foreign, reference=way, share=share, before=before, runs=told.runs,
                        strange_share=round(float((ranks[:, before : before + 100] <= LEVELS[0]).mean()), 3),
                        early=round(early, 4),
                        within_300=round(float((calls <= 300).mean()), 3),
                        median_calls=float(median) if np.isfinite(median) else None,
                        p90_calls=float(late) if np.isfinite(late) else None,
                    )  # fmt: skip
    write_results("input_drift", kept)


if __name__ == "__main__":
    main()
