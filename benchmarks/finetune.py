"""Fine-tuning on real tasks: the plain program, the best prompt, trained weights, and ``dspy.BootstrapFinetune``.

    python -m progspace.benchmarks.finetune --data path/to/data
    python -m progspace.benchmarks.finetune --table

One compile climbs the whole ladder on the embedded LM; its report gives the first three. ``dspy.BootstrapFinetune``
runs as it ships, on the same train examples with the same settings of the training. All are scored on the same sealed
test rows; ``calls`` and ``input_tokens`` are those of that run. Tasks: movie-sentiment and ten intents of banking77,
read from public data, and release notes in a house style, which ship with progspace.

Each task's lines are added to ``results/finetune.jsonl`` when it is done; a task that stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
from rich import box
from rich.console import Console
from rich.table import Table

import progspace as ps

from ..evaluation import numbers
from ..evaluation.evaluation import Evaluation, evaluate_cells
from ..evaluation.findings import Measured
from ..evaluation.matrix import Matrix
from ..evaluation.statistics import Interval
from ..lms.budget import Meter
from ..programs import release_notes
from ..progress import CompileProgress
from ..store.database import Store, open_store
from .results import RESULTS, read_results
from .tasks import real_task

__all__ = ["main"]

ROWS, TEST_ROWS = 800, 200
FRACTIONS = (0.6, 0.2, 0.2)
TRAINING = {"learning_rate": 1e-3, "epochs": 4, "max_seconds": 900.0}
MAX_TOKENS = 48
OURS = {"baseline": "baseline", "fine-tuning": "finetuned"}


def _style(data: Path, seed: int) -> ps.Task:  # noqa: ARG001
    return release_notes.task(count=ROWS + TEST_ROWS, seed=seed, fractions=FRACTIONS)


def _public(name: str) -> Callable[[Path, int], ps.Task]:
    return lambda data, seed: real_task(name, data, seed=seed, rows=ROWS, test_rows=TEST_ROWS, fractions=FRACTIONS)


MAKERS: dict[str, Callable[[Path, int], ps.Task]] = {
    "release-notes": _style,
    "banking77-10": _public("banking77-10"),
    "movie-sentiment": _public("movie-sentiment"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what has not been run yet, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of public data")
    parser.add_argument("--tasks", nargs="*", default=list(MAKERS), choices=MAKERS)
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
    for name in arguments.tasks:
        if any(
            (line["task"], line["seed"], line["budget"]) == (name, arguments.seed, arguments.calls) for line in known
        ):
            continue
        with open_store(arguments.store) as store:
            lines = list(_lines(MAKERS[name](arguments.data, arguments.seed), store, arguments.calls, arguments.seed))
        with arguments.results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        known += lines
    print(table(known))


def _lines(task: ps.Task, store: Store, calls: int, seed: int) -> Iterator[dict[str, Any]]:
    lm = ps.lm("local", max_tokens=MAX_TOKENS)
    own = {"task": task.name, "lm": lm.model, "budget": calls, "seed": seed, "train": len(task.train)}
    started = time.monotonic()
    with CompileProgress(Console(stderr=True)) as progress:
        compiled = ps.compile(
            task,
            lm=lm,
            budget=ps.Budget(calls=calls),
            store=store,
            seed=seed,
            test_rows=TEST_ROWS,
            progress=progress,
            space=ps.Space(finetuning=ps.FineTuning(settings=TRAINING)),
        )
    print(compiled.report, flush=True)
    took = time.monotonic() - started
    prompt = next(rung for rung in reversed(compiled.report.rungs) if rung.kept and rung.name != "fine-tuning")
    for rung in compiled.report.rungs:
        name = "prompt" if rung is prompt else OURS.get(rung.name)
        if name is None or rung.test is None:
            continue
        line = {**own, "optimizer": name, "choice": rung.choice, **_measured(rung.test), "kept": rung.kept}
        if (training := rung.training) is not None:
            line |= {
                "training_examples": training.examples, "trained_tokens": training.tokens,
                "training_seconds": training.seconds, "source": training.source, "pace": training.pace,
                "payback": training.payback,
            }  # fmt: skip
        yield {**line, "compile_seconds": round(took, 1)}
    test = list(task.unseal_test("dspy.BootstrapFinetune on the same rows"))[:TEST_ROWS]
    yield {**own, "optimizer": "dspy.BootstrapFinetune", **_bootstrap_finetune(task, test, lm, store)}


def _measured(measured: Measured) -> dict[str, Any]:
    return {
        "score": measured.score, "low": measured.low, "high": measured.high, "n_test": measured.n,
        "calls": round(measured.calls * measured.n), "input_tokens": round(measured.input_tokens * measured.n),
        "output_tokens": round((measured.tokens - measured.input_tokens) * measured.n),
        "seconds": round(measured.seconds, 3),
    }  # fmt: skip


def _bootstrap_finetune(task: ps.Task, test: Sequence[dspy.Example], lm: dspy.BaseLM, store: Store) -> dict[str, Any]:
    """Runs DSPy's own, as it ships: its teacher is the program as declared, its format DSPy's chat."""
    student = task.program.deepcopy()
    student.set_lm(lm)
    told: list[float] = []
    settings = {**TRAINING, "progress": lambda event: told.append(float(event.data.get("step", 0)))}
    tuner = dspy.BootstrapFinetune(metric=task.metric, train_kwargs=settings, num_threads=16)
    started = time.monotonic()
    try:
        with dspy.context(lm=lm):
            tuned = tuner.compile(student, trainset=list(task.train))
        reason = ""
    except Exception as fault:  # as much a result as a score: it is reported with its reason
        tuned, reason = student, f"{type(fault).__name__}: {fault}"
    took = time.monotonic() - started
    scored = _scored(tuned, task, test, lm, store)
    return {
        **_measured(scored.measured()), "choice": reason or "as it ships", "kept": not reason,
        "compile_seconds": round(took, 1), "training_steps": int(max(told, default=0)),
    }  # fmt: skip


def _scored(
    program: dspy.Module, task: ps.Task, test: Sequence[dspy.Example], lm: dspy.BaseLM, store: Store
) -> Evaluation:
    return evaluate_cells(Matrix(store, task.metric, lm, Meter()).fill(program, test), test)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """What the results say, as text."""
    from ..evaluation.rendering import as_text

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
