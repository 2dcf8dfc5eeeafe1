"""One run of the peers' benchmark: an optimizer searches under the meter, then its program reads the sealed test."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..evaluation.evaluation import evaluate_cells
from ..evaluation.matrix import Matrix, StoreAnswers
from ..lms.budget import Budget, Meter
from ..lms.journal import JournaledLM, concurrency
from ..optimizers.calibration import calibrate
from ..programs.candidate import Candidate
from ..programs.compact import CompactAdapter
from ..programs.formats import Format
from ..store.database import Store
from ..store.records import Cell
from .peer_dspy import DSPY_OPTIMIZERS, NEVER
from .peer_search import Found, Search, same_program
from .tasks import real_task

__all__ = ["OPTIMIZERS", "PEERS", "PROGSPACE", "Key", "Setup", "run"]

PEERS = (*DSPY_OPTIMIZERS, "CAPO")
PROGSPACE = "progspace"
OPTIMIZERS = (*PEERS, PROGSPACE)

_PROBED = 16  # examples on which the calls of one program run are counted
_CALIBRATED = 50  # of dev, on which a found program's biases are fitted


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one run from another.

    Attributes:
        task: By its name in `tasks.TASKS`.
        optimizer: By its name.
        format: ``default``, or ``best``: the compact format with scored choices. progspace searches formats itself.
        budget: LM calls.
        seed: Of the rows and of the optimizer.
    """

    task: str
    optimizer: str
    format: str
    budget: int
    seed: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs share.

    Attributes:
        data: The folder of public data.
        store: Remembers answers and cells.
        lm: Answers for programs.
        prompt_lm: Writes instructions: the same LM with room for longer answers.
        logs: A folder for the optimizers' own logs.
        rows: For train and dev.
        test_rows: Of the sealed test.
        objectives: Of progspace: how sure it has to be of a gain. Peers take the highest score of dev.
    """

    data: Path
    store: Store
    lm: dspy.BaseLM
    prompt_lm: dspy.BaseLM
    logs: Path
    rows: int = 200
    test_rows: int = 200
    objectives: ps.Objectives | None = None


def run(key: Key, setup: Setup) -> dict[str, Any]:
    """Gives the line that is kept of a run."""
    task = real_task(key.task, setup.data, seed=key.seed, rows=setup.rows, test_rows=setup.test_rows)
    searched = (_progspace if key.optimizer == PROGSPACE else _peer)(key, task, setup)
    return {
        "task": key.task,
        "optimizer": key.optimizer,
        "format": key.format,
        "budget": key.budget,
        "seed": key.seed,
        **searched,
    }


def _peer(key: Key, task: ps.Task, setup: Setup) -> dict[str, Any]:
    best = key.format == "best"
    adapter = CompactAdapter(decoding="scored") if best else None
    answers = StoreAnswers(setup.store)
    with dspy.context(adapter=adapter, max_errors=NEVER):
        probe = Meter()
        per_example = 1.0
        if key.optimizer != "CAPO":
            lm = JournaledLM(setup.lm, probe, answers)
            with dspy.context(lm=lm), _quiet(setup.logs / "probe.log"):
                dspy.Evaluate(devset=list(task.train[:_PROBED]), metric=lambda *_: 0.0, num_threads=_PROBED)(
                    task.program
                )
            per_example = max(1.0, probe.spent.calls / min(_PROBED, len(task.train)))
        meter = Meter(Budget(calls=key.budget))
        search = Search(
            task=task,
            lm=JournaledLM(setup.lm, meter, answers),
            prompt_lm=JournaledLM(setup.prompt_lm, meter, answers),
            meter=meter,
            per_example=per_example,
            seed=key.seed,
            threads=concurrency(setup.lm),
            best=best,
        )
        log = setup.logs / f"{key.task}-{key.optimizer}-{key.format}-{key.budget}-{key.seed}.log"
        started = time.monotonic()
        with dspy.context(lm=search.lm), _quiet(log):
            found, died = _found(key.optimizer, search)
    spent, seconds = meter.spent, time.monotonic() - started
    start = found.start or task.program
    program, reason = found.program, died
    if program is None:
        program = start
        reason = died or "it finished no step within the budget"
    elif _unchanged(program, start):
        reason = "the program that it started from is the best that it found"
    return {
        **_scored(program, task, setup, best=best and not found.own_prompt, seed=key.seed),
        "calls": spent.calls,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "seconds": round(seconds, 1),
        "bought": spent.bought,
        "calls_per_example": round(per_example, 2),
        "searched": found.searched,
        "fell_back": reason is not None,
        "reason": reason,
        **({"note": found.note} if found.note else {}),
    }


def _found(optimizer: str, search: Search) -> tuple[Found, str | None]:
    """Runs an optimizer; gives what it found, and why it died where it did."""
    try:
        if optimizer == "CAPO":
            return _capo(search), None
        return DSPY_OPTIMIZERS[optimizer](search), None
    except ImportError:
        raise
    except Exception as fault:  # whatever ends a peer is what is to be told of it
        logging.getLogger("dspy").exception("the search died")
        told = " ".join(f"{type(fault).__name__}: {fault}".split())
        return Found(None, "died"), f"it died: {told[:300]}"


def _capo(search: Search) -> Found:
    try:
        from .peer_capo import capo
    except ImportError as missing:
        raise ImportError("CAPO is promptolution's, which is an extra: pip install progspace[peers]") from missing
    return capo(search)


def _unchanged(program: dspy.Module, start: dspy.Module) -> bool:
    if program.predictors():
        return same_program(program, start)
    return getattr(program, "prompt", None) == getattr(start, "prompt", None)


def _scored(program: dspy.Module, task: ps.Task, setup: Setup, *, best: bool, seed: int) -> dict[str, Any]:
    """Reads the sealed test with a program, on a meter of its own.

    In the best format a choice is read scored or calibrated, whichever does better on dev: the biases are fitted on
    inputs of dev, their labels choose, and neither is charged to the optimizer.
    """
    for predictor in program.predictors():
        predictor.lm = None
    meter = Meter()
    matrix = Matrix(setup.store, task.metric, setup.lm, meter)
    with dspy.context(adapter=None):
        runnable, decoding = program, None
        if best:
            declared = Candidate.declared(program)
            plain = declared.with_choice(format=Format(kind="compact", decoding="scored"))
            wanted = declared.with_choice(format=Format(kind="compact", decoding="calibrated"))
            rows = task.dev[:_CALIBRATED]
            fitted = calibrate(wanted, lambda each: each.apply(program), rows, matrix)
            dev = {
                name: _mean(matrix.fill(each.apply(program), rows))
                for name, each in (("scored", plain), ("calibrated", fitted))
            }
            decoding = max(dev, key=lambda name: dev[name])
            runnable = (fitted if decoding == "calibrated" else plain).apply(program)
        return {**_tested(runnable, task, matrix, seed), **({"decoding": decoding} if decoding else {})}


def _tested(program: dspy.Module, task: ps.Task, matrix: Matrix, seed: int) -> dict[str, Any]:
    test = task.unseal_test("the peers' benchmark scores what a search came to")
    evaluation = evaluate_cells(matrix.fill(program, test), test, seed=seed)
    return {
        "score": evaluation.score,
        "low": evaluation.interval.low,
        "high": evaluation.interval.high,
        "n_test": evaluation.n,
        "errors": evaluation.errors,
        "test_calls": evaluation.calls,
    }


def _mean(cells: Sequence[Cell]) -> float:
    return sum(cell.score or 0.0 for cell in cells) / len(cells)


def _progspace(key: Key, task: ps.Task, setup: Setup) -> dict[str, Any]:
    # A report reads the sealed test with every rung; here the winner's score alone is wanted.
    sealed = real_task(key.task, setup.data, seed=key.seed, rows=setup.rows, test_rows=0)
    started = time.monotonic()
    compiled = ps.compile(
        sealed,
        lm=setup.lm,
        writer=setup.prompt_lm,
        budget=Budget(calls=key.budget),
        seed=key.seed,
        store=setup.store,
        objectives=setup.objectives,
    )
    seconds = time.monotonic() - started
    winner, spent = compiled.report.winner, compiled.report.rungs
    baseline = winner is spent[0]
    matrix = Matrix(setup.store, task.metric, setup.lm, Meter())
    return {
        **_tested(compiled.program, task, matrix, key.seed),
        "calls": sum(rung.calls for rung in spent),
        "input_tokens": sum(rung.input_tokens for rung in spent),
        "output_tokens": sum(rung.output_tokens for rung in spent),
        "seconds": round(seconds, 1),
        "bought": sum(rung.bought for rung in spent),
        "choice": winner.choice,
        "searched": f"{sum(rung.candidates for rung in spent)} candidates",
        "fell_back": baseline,
        "reason": "the program as declared is the best that it found" if baseline else None,
    }


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Sends what an optimizer prints and logs to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    loggers = [logging.getLogger(name) for name in ("dspy", "promptolution", "gepa")]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        handler = logging.StreamHandler(file)
        for each in loggers:
            each.handlers, each.propagate = [handler], False
            each.setLevel(logging.INFO)
        try:
            yield
        finally:
            for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
                each.handlers, each.propagate = handlers, propagate
                each.setLevel(level)
