"""How often a search claims a gain that is none, and misses one that is: whole searches on made-up LMs.

    python -m progspace.benchmarks.claims [--runs 100]

The LM answers at once, and each of its answers is right by chance, told by the prompt's hash: where nothing is to be
gained, with the same chance for every prompt there is; else with a higher one for prompts in any format but the
declared one. Answers of different prompts have nothing in common, which real ones have: the luck among candidates is
as large here as it can be. The task has 160 rows of two labels, and each search draws another LM, other splits and
other candidates. Told is how often the winner is not the program as declared.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dspy
from dspy.lm15 import Message, Request, Response, Usage

import progspace as ps

from ..evaluation.statistics import mean_interval
from ..programs.candidate import Candidate
from .results import write_results
from .simulations import simulation_parser, workers

__all__ = ["main", "search"]

CALLS = (100, 300, 1000)
GAINS = (0.0, 0.15)
ROWS = 160
CHANCE = 0.6
_CHAT, _JSON = "[[ ##", "JSON object"  # by which DSPy's own formats are known


class Mood(dspy.Signature):
    """Say the mood of the note."""

    note: str = dspy.InputField()
    mood: Literal["glad", "sad"] = dspy.OutputField()


@dataclass(frozen=True, slots=True)
class LuckyEngine:
    """Answers rightly by chance, which a prompt's hash tells.

    Attributes:
        seed: Of what is right.
        gain: By how much the chance is higher where the prompt is not in DSPy's own format.
    """

    seed: int
    gain: float
    concurrency: int = 8
    supported_params: frozenset[str] = frozenset({"temperature", "max_tokens"})

    def complete(self, request: Request) -> Response:
        """Gives a mood, as the prompt's format wants it."""
        told = str([request.system, *request.messages])
        chat = _CHAT in told and _JSON not in told
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed} {told}".encode()).digest()[:4], "big") / 2**32
        right = drawn < CHANCE + (0.0 if chat else self.gain)
        # The row's own number stands last: those of demonstrations stand before it.
        number = told.rpartition("Note ")[2].split(" ", 1)[0]
        mood = "glad" if (int(number) % 2 == 0) == right else "sad"
        text = f"[[ ## mood ## ]]\n{mood}\n\n[[ ## completed ## ]]" if chat else mood
        if _JSON in told:
            text = f'{{"mood": "{mood}"}}'
        return Response(None, request.model, Message.assistant(text), "stop", Usage(input_tokens=100, output_tokens=1))


def search(run: tuple[float, int, int]) -> dict[str, Any]:
    """Searches once, with so much to gain, so many calls, and a seed; says what was claimed."""
    gain, calls, seed = run
    logging.getLogger("progspace").setLevel(logging.ERROR)
    rows = [{"note": f"Note {number} of {seed}.", "mood": ("glad", "sad")[number % 2]} for number in range(ROWS)]
    task = ps.Task(program=dspy.Predict(Mood), examples=rows, metric=ps.metrics.choice("mood"), name="lucky")
    lm = dspy.LM("lucky/one", engine=LuckyEngine(seed, gain), cache=False, num_retries=0)
    compiled = ps.compile(task, lm=lm, budget=ps.Budget(calls=calls), store=":memory:", seed=seed)
    return {
        "gain": gain,
        "budget": calls,
        "seed": seed,
        "replaced": compiled.candidate != Candidate.declared(task.program),
        "calls": sum(rung.calls for rung in compiled.report.rungs),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Searches; writes ``results/claims.jsonl``."""
    arguments = simulation_parser(__doc__, runs=100).parse_args(argv)
    wanted = [*itertools.product(GAINS, CALLS, range(arguments.runs))]
    with workers(arguments.workers) as pool:
        lines = pool.map(search, wanted, chunksize=1)
    write_results("claims", lines, arguments.results)
    for gain, calls in itertools.product(GAINS, CALLS):
        replaced = [float(line["replaced"]) for line in lines if (line["gain"], line["budget"]) == (gain, calls)]
        interval = mean_interval(replaced)
        print(
            f"{100 * gain:.0f} points to gain, {calls:5,} calls: replaced in "
            f"{100 * sum(replaced) / len(replaced):.0f} % ({100 * interval.low:.0f}–{100 * interval.high:.0f})"
        )


if __name__ == "__main__":
    main()
