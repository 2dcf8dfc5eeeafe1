"""Records full matrices of candidates × examples on the embedded LM, for races to be replayed on.

    python -m progspace.benchmarks.record --data path/to/data

A matrix holds what 64 candidates did on each of 200 examples of a real task: formats, decodings, instructions by rule
and labelled demonstrations, half of them drawn from the whole space, half from the part that small LMs do well in (a
compact prompt, demonstrations), as they meet late in a search. The recordings are ours, and stand in
``benchmarks/recordings``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import time
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..evaluation.matrix import Matrix
from ..lms.budget import Meter
from ..optimizers.calibration import calibrate
from ..optimizers.proposers.draws import balanced
from ..optimizers.proposers.pools import label_pools
from ..programs.candidate import Candidate
from ..programs.fields import choices_of
from ..programs.formats import Format
from ..store.database import open_store
from .tasks import TASKS, real_task

RECORDINGS = Path(__file__).parent / "recordings"
RECORDED = ("movie-sentiment", "sports-understanding", "boolean-expressions", "navigate")
CANDIDATES, EXAMPLES = 64, 200


def candidates(task: ps.Task, pool: list[dspy.Example], seed: int) -> list[Candidate]:
    """Draws different candidates of a task with one predictor."""
    generator = random.Random(seed)  # noqa: S311 — reproducible, not secret
    module = task.program
    ((predictor, declared),) = module.named_predictors()
    signature = declared.signature
    labels = choices_of(next(iter(signature.output_fields.values())).annotation)
    inputs, outputs = " and ".join(signature.input_fields), " and ".join(signature.output_fields)
    instructions = [
        None,
        f"{signature.instructions} Be brief.",
        f"Read the {inputs}, then give the {outputs}.",
        f"You are an expert. {signature.instructions}",
        f"Given the {inputs}, find the {outputs}.",
        f"{signature.instructions} Think before you decide.",
    ]
    decodings = ["free", "constrained", *(["scored", "calibrated"] if labels else [])]
    good = [Format(kind="compact", decoding=each, hints=hints) for each in decodings[-3:] for hints in (False, True)]
    every = [
        *good, *good, Format(kind="compact"), Format(kind="compact", hints=True),
        Format(kind="json", decoding="constrained"), Format(kind="json"), Format(),
    ]  # fmt: skip
    labelled = label_pools(module, pool)[predictor]
    sizes = (1, 2, 4) if "passage" in signature.input_fields else (2, 4, 8)
    drawn: dict[str, Candidate] = {}
    while len(drawn) < CANDIDATES:
        late = len(drawn) >= CANDIDATES // 2
        chosen = generator.choice(good if late else every)
        candidate = Candidate.declared(module).with_choice(
            format=chosen, instruction=generator.choice(instructions), origin=chosen.label
        )
        if generator.random() < (0.9 if late else 0.4):
            named, size = generator.randrange(10**9), generator.choice(sizes)
            draws = random.Random(hashlib.sha256(f"{named}:labelled:0:{size}:{predictor}".encode()).digest())  # noqa: S311
            shown = balanced(labelled, signature, size, draws)
            draws.shuffle(shown)
            origin = f"{chosen.label}, {size} labelled demonstrations"
            candidate = candidate.with_choice(demonstrations=tuple(shown), origin=origin)
        drawn.setdefault(candidate.hash, candidate)
    return list(drawn.values())


def record(name: str, data: Path, store: Path, precision: str) -> dict[str, Any]:
    """Fills one matrix; known cells cost nothing."""
    rows = 450 if TASKS[name].read(data)[1] is not None else 250
    task = real_task(name, data, seed=0, rows=rows, test_rows=1)
    train, _ = TASKS[name].read(data)
    random.Random(0).shuffle(train)  # noqa: S311 — reproducible, not secret
    all_rows = [dspy.Example(**row).with_inputs(*task.inputs) for row in train[:rows]]
    examples, pool = all_rows[:EXAMPLES], all_rows[EXAMPLES:]
    lm = ps.lm("local", max_tokens=48, precision=precision)
    started, recorded = time.monotonic(), []
    with open_store(store) as opened:
        meter = Meter()
        matrix = Matrix(opened, task.metric, lm, meter)
        for number, candidate in enumerate(candidates(task, pool, seed=0)):
            fitted = calibrate(candidate, lambda each: each.apply(task.program), examples, matrix)
            cells = matrix.fill(fitted.apply(task.program), examples)
            scores = [round(cell.score or 0.0, 4) for cell in cells]
            choice = next(iter(candidate.predictors.values()))
            recorded.append(
                {
                    "origin": candidate.origin,
                    "format": choice.format.label if choice.format else "as declared",
                    "instruction": choice.instruction,
                    "demonstrations": len(choice.demonstrations or ()),
                    "tokens": round(sum(c.input_tokens + c.output_tokens for c in cells) / len(cells), 1),
                    "scores": [int(score) if score in (0.0, 1.0) else score for score in scores],
                }
            )
            print(
                f"{name} {number + 1}/{CANDIDATES} {100 * sum(scores) / len(scores):5.1f} %  "
                f"{time.monotonic() - started:6.0f} s  {candidate.origin}",
                flush=True,
            )
    return {
        "task": name,
        "lm": "local/smollm2-135m",
        "precision": precision,
        "seed": 0,
        "examples": len(examples),
        "candidates": recorded,
    }


def main() -> None:
    """Records the matrices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=list(RECORDED), choices=RECORDED)
    parser.add_argument("--store", type=Path, default=Path(".progspace/recordings.db"))
    parser.add_argument(
        "--precision", choices=["f32", "bf16"], default="f32", help="bf16 is faster where the CPU has it"
    )
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    RECORDINGS.mkdir(exist_ok=True)
    for name in arguments.tasks:
        recording = record(name, arguments.data, arguments.store, arguments.precision)
        (RECORDINGS / f"{name}.json").write_text(json.dumps(recording) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
