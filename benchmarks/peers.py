"""progspace and its peers on real tasks: the same embedded LM, the same rows, the same budget of LM calls.

    python -m progspace.benchmarks.peers --data path/to/data
    python -m progspace.benchmarks.peers --table

Peers run as they ship: DSPy's LabeledFewShot, BootstrapFewShotWithRandomSearch, MIPROv2, SIMBA, GEPA and COPRO, and
promptolution's CAPO (``pip install progspace[peers]``), each in its default format and in our best one. One meter in
the LM counts every prompt that a search asks, parse retries and the instructions that the LM writes included, and stops
it when the budget is spent. Then the program that it came to is scored on sealed test rows. A run that ends where it
started, or dies, is kept as that, with the reason, and scored as the program that it started from.

Each finished run is a line of ``results/peers.jsonl``; a run that stands there is not run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import product
from pathlib import Path
from typing import Any

import progspace as ps

from ..evaluation import numbers
from ..store.database import open_store
from .peer_runs import OPTIMIZERS, PEERS, PROGSPACE, Key, Setup, run
from .peer_table import table
from .results import RESULTS, append_results, read_runs
from .tasks import TASKS

__all__ = ["BUDGETS", "grid", "main"]

BUDGETS = (500, 1000, 2000)

TASK_TOKENS, PROMPT_TOKENS = 48, 300


def grid(
    tasks: Sequence[str],
    optimizers: Sequence[str],
    budgets: Sequence[int],
    seeds: Sequence[int],
    formats: Sequence[str],
) -> list[Key]:
    """Gives the runs in an order that is useful wherever it is cut off.

    First every peer in the best format, one peer on all tasks after the other, then in its default one, then more seeds
    and larger budgets; progspace last.
    """
    peers = [optimizer for optimizer in PEERS if optimizer in optimizers]
    rounds = [
        ("best", 500, (0,)), ("default", 500, (0,)), ("best", 500, (1, 2)), ("best", 2000, (0,)), ("best", 1000, (0,)),
    ]  # fmt: skip
    rounds += [(layout, budget, (seed,)) for layout in ("best", "default") for seed in seeds for budget in budgets]
    ordered = [
        Key(task, peer, layout, budget, seed)
        for layout, budget, own in rounds
        for seed in own
        if layout in formats and budget in budgets and seed in seeds
        for peer, task in product(peers, tasks)
    ]
    if PROGSPACE in optimizers:
        ordered += [Key(task, PROGSPACE, "own", *each) for each in product(budgets, seeds) for task in tasks]
    return list(dict.fromkeys(ordered))


def known(path: Path) -> set[tuple[object, ...]]:
    """The runs that stand in the results."""
    if not path.exists():
        return set()
    names = ("task", "optimizer", "format", "budget", "seed")
    return {tuple(line[name] for name in names) for line in read_runs(path)}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what has not been run yet, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of public data")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--optimizers", nargs="*", default=list(PEERS), choices=OPTIMIZERS)
    parser.add_argument("--budgets", nargs="*", type=int, default=list(BUDGETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--formats", nargs="*", default=["best", "default"], choices=["best", "default"])
    parser.add_argument("--store", type=Path, default=Path(".progspace/peers.db"))
    parser.add_argument("--results", type=Path, default=RESULTS / "peers.jsonl")
    parser.add_argument(
        "--sure", type=float, default=ps.Objectives().sure, help="how sure progspace has to be of a gain"
    )
    parser.add_argument("--table", action="store_true", help="print what the results say, and run nothing")
    arguments = parser.parse_args(argv)
    if arguments.table:
        print(table(read_runs(arguments.results)))
        return
    if arguments.data is None:
        parser.error("--data is needed to run: the folder that holds movie-sentiment, banking77, squad-mini and bbh")
    keys = grid(arguments.tasks, arguments.optimizers, arguments.budgets, arguments.seeds, arguments.formats)
    done = known(arguments.results)
    left = [key for key in keys if astuple(key) not in done]
    print(f"{len(keys)} runs, {len(left)} to do", flush=True)
    _run(left, arguments.data, arguments.store, arguments.results, ps.Objectives(sure=arguments.sure))


def _run(keys: Iterable[Key], data: Path, store: Path, results: Path, objectives: ps.Objectives) -> None:
    with open_store(store) as opened:
        setup = Setup(
            data=data,
            store=opened,
            lm=ps.lm("local", max_tokens=TASK_TOKENS),
            # At temperature 0 an LM that is asked for one more idea gives the same one.
            prompt_lm=ps.lm("local", max_tokens=PROMPT_TOKENS, temperature=1.0),
            logs=store.parent / "peers",
            objectives=objectives,
        )
        for key in keys:
            started = time.monotonic()
            line = run(key, setup)
            append_results(results, [line])
            seconds = time.monotonic() - started
            print(f"{time.strftime('%H:%M:%S')} {_told(line)} in {seconds:.0f} s", flush=True)


def _told(line: Mapping[str, Any]) -> str:
    """A run in one line of text."""
    run_of = f"{line['task']:<21}{line['optimizer']:<34}{line['format']:<8}{line['budget']:>5} seed {line['seed']}"
    fell_back = f"; fell back: {line['reason']}" if line["fell_back"] else ""
    return f"{run_of}  {numbers.percent(line['score']):>7}  {line['calls']:>5} calls{fell_back}"


if __name__ == "__main__":
    main()
