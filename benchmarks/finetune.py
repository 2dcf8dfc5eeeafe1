"""Fine-tuning on real tasks: the plain program, the best prompt, trained weights, and ``dspy.BootstrapFinetune``.

    python -m progspace.benchmarks.finetune --data path/to/data
    python -m progspace.benchmarks.finetune --table

One compile climbs the whole ladder on the embedded LM; its report gives the first three. ``dspy.BootstrapFinetune``
runs as it ships, on the same train examples with the same settings of the training, with fewer epochs where its longer
prompts would take more than the time that is allowed. All are scored on the same sealed test rows; ``calls`` and
``input_tokens`` are those of that run. Tasks: movie-sentiment and ten intents of banking77, read from public data, and
release notes in a house style, which ship with progspace.

Lines are added to ``results/finetune.jsonl`` as they come; what stands there is not run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
from rich import box
from rich.console import Console
from rich.table import Table

import progspace as ps

from ..errors import FineTuningError
from ..evaluation import numbers
from ..evaluation.evaluation import evaluate_cells
from ..evaluation.findings import Measured
from ..evaluation.matrix import Matrix
from ..evaluation.statistics import Interval
from ..lms.budget import Meter
from ..programs import release_notes
from ..progress import CompileProgress
from ..store.database import Store, open_store
from .results import RESULTS, append_results, read_results
from .tasks import real_task

__all__ = ["main"]

FRACTIONS = (0.6, 0.2, 0.2)
MAX_TOKENS = 48
MAX_SECONDS = 900.0
PEER = "dspy.BootstrapFinetune"
OURS = {"baseline": "baseline", "fine-tuning": "finetuned"}


@dataclass(frozen=True, slots=True)
class Case:
    """A task, and how its LM is trained.

    Attributes:
        make: Makes it from the folder of data, a number of rows for train and dev, and a seed.
        rows: For train and dev.
        test_rows: Sealed.
        training: Settings; the more examples there are, the fewer epochs.
    """

    make: Callable[[Path, Case, int], ps.Task]
    rows: int
    test_rows: int
    training: Mapping[str, Any]


def _style(data: Path, case: Case, seed: int) -> ps.Task:  # noqa: ARG001
    return release_notes.task(count=case.rows + case.test_rows, seed=seed, fractions=FRACTIONS)


def _public(name: str) -> Callable[[Path, Case, int], ps.Task]:
    return lambda data, case, seed: real_task(
        name, data, seed=seed, rows=case.rows, test_rows=case.test_rows, fractions=FRACTIONS
    )


FEW = {"learning_rate": 1e-3, "epochs": 4}
CASES = {
    "release-notes": Case(_style, 800, 200, FEW),
    "banking77-10": Case(_public("banking77-10"), 800, 200, FEW),
    "movie-sentiment": Case(
        _public("movie-sentiment"), 2000, 500, {"learning_rate": 5e-4, "epochs": 2, "dropout": 0.1}
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what has not been run yet, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of public data")
    parser.add_argument("--tasks", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--calls", type=int, default=1500, help="of the search, proposals included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path(".progspace/finetune.db"))
    parser.add_argument("--results", type=Path, default=RESULTS / "finetune.jsonl")
    parser.add_argument("--table", action="store_true", help="print what the results say, and run nothing")
    arguments = parser.parse_args(argv)
    known = read_results(arguments.results.stem, arguments.results.parent) if arguments.results.exists() else []
    if arguments.table:
        print(table(known))
        return
    if arguments.data is None:
        parser.error("--data is needed to run: the folder that holds movie-sentiment and banking77")
    lm = ps.lm("local", max_tokens=MAX_TOKENS)
    for name in arguments.tasks:
        own = {"task": name, "lm": lm.model, "budget": arguments.calls, "seed": arguments.seed}
        done = {line["optimizer"] for line in known if own.items() <= line.items()}
        for part in ([] if done - {PEER} else [_ours]) + ([] if PEER in done else [_peer]):
            case = CASES[name]
            task = case.make(arguments.data, case, arguments.seed)
            settings = {**case.training, "max_seconds": MAX_SECONDS}
            with open_store(arguments.store) as store:
                found = part(task, settings, lm, store, arguments)
                lines = [{**own, "train": len(task.train), **line} for line in found]
            append_results(arguments.results, lines)
            known += lines
    print(table(known))


def _ours(
    task: ps.Task, settings: Mapping[str, Any], lm: dspy.BaseLM, store: Store, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    started = time.monotonic()
    with CompileProgress(Console(stderr=True)) as progress:
        compiled = ps.compile(
            task,
            lm=lm,
            budget=ps.Budget(calls=arguments.calls),
            store=store,
            seed=arguments.seed,
            progress=progress,
            space=ps.Space(finetuning=ps.FineTuning(settings=settings)),
        )
    print(compiled.report, flush=True)
    took = time.monotonic() - started
    prompt = next(rung for rung in reversed(compiled.report.rungs) if rung.kept and rung.name != "fine-tuning")
    for rung in compiled.report.rungs:
        name = "prompt" if rung is prompt else OURS.get(rung.name)
        if name is None or rung.test is None:
            continue
        line = {"optimizer": name, "choice": rung.choice, **_measured(rung.test), "kept": rung.kept}
        if (training := rung.training) is not None:
            line |= {
                "training_examples": training.examples, "trained_tokens": training.tokens,
                "training_seconds": training.seconds, "source": training.source, "pace": training.pace,
                "payback": training.payback,
            }  # fmt: skip
        yield {**line, "compile_seconds": round(took, 1)}


def _measured(measured: Measured) -> dict[str, Any]:
    return {
        "score": measured.score, "low": measured.low, "high": measured.high, "n_test": measured.n,
        "calls": round(measured.calls * measured.n), "input_tokens": round(measured.input_tokens * measured.n),
        "output_tokens": round((measured.tokens - measured.input_tokens) * measured.n),
        "seconds": round(measured.seconds, 3),
    }  # fmt: skip


def _peer(
    task: ps.Task, settings: Mapping[str, Any], lm: dspy.BaseLM, store: Store, _: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Runs DSPy's own, as it ships: its teacher is the program as declared, its format DSPy's chat."""
    student = task.program.deepcopy()
    student.set_lm(lm)
    told: list[float] = []
    tuned, reason, started, epochs = None, "", time.monotonic(), settings["epochs"]
    while tuned is None and epochs:
        how = {**settings, "epochs": epochs, "progress": lambda event: told.append(float(event.data.get("step", 0)))}
        tuner = dspy.BootstrapFinetune(metric=task.metric, train_kwargs=how, num_threads=16)
        try:
            with dspy.context(lm=lm):
                tuned = tuner.compile(student.deepcopy(), trainset=list(task.train))
        except Exception as fault:  # as much a result as a score: it is reported with its reason
            reason = f"{type(fault).__name__}: {fault}"
            print(reason, flush=True)
            epochs = epochs - 1 if isinstance(fault, FineTuningError) else 0
    took = time.monotonic() - started
    test = list(task.unseal_test("dspy.BootstrapFinetune on the same rows"))
    evaluation = evaluate_cells(Matrix(store, task.metric, lm, Meter()).fill(tuned or student, test), test)
    yield {
        "optimizer": PEER,
        "choice": f"as it ships, {epochs} of {settings['epochs']} epochs" if epochs else reason,
        **_measured(evaluation.measured()),
        "kept": tuned is not None,
        "compile_seconds": round(took, 1),
        "training_steps": int(max(told, default=0)),
    }


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """What the results say, as text."""
    from ..evaluation.shown import as_text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("task", "program", "test", "95 %", "input tokens", "training"):
        drawn.add_column(column, justify="left" if column in ("task", "program") else "right")
    for line in lines:
        training = line.get("training_seconds")
        drawn.add_row(
            line["task"],
            line["optimizer"],
            numbers.percent(line["score"]),
            numbers.interval(Interval(line["low"], line["high"], 0.95, "")),
            numbers.count(line["input_tokens"] / max(1, line["n_test"])),
            "" if training is None else numbers.duration(training),
        )
    return as_text(drawn)


if __name__ == "__main__":
    main()
