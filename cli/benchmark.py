"""``progspace benchmark``."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import DataError

__all__ = ["add_benchmark"]

SUITES = (
    "cluster", "code_generation", "cold_start", "core", "drift", "embedding", "faults", "finetune", "gate", "ingest",
    "kills", "known", "newcomer", "overhead", "page", "peers", "policies", "record", "replay", "retrieval",
    "robustness", "screenshots", "search_overhead", "selection", "sentiment", "serving", "show", "store", "vectors",
    "watching",
)  # fmt: skip


def add_benchmark(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command(context_settings=settings)(benchmark)


def benchmark(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="Its name; without one, all are told of.")] = "",
) -> None:
    """Runs a benchmark suite; `progspace benchmark SUITE --help` tells its options. `show` shows what was measured.

    Example: `progspace benchmark replay --runs 100`, then `progspace benchmark show replay --open`
    """
    if suite in ("", "--help"):
        typer.echo(context.get_help())
        _tell()
        return
    if suite not in SUITES:
        raise DataError(f"there is no suite {suite!r}; there is {', '.join(SUITES)}")
    sys.argv = [f"progspace benchmark {suite}", *context.args]
    importlib.import_module(f"..benchmarks.{suite}", __package__).main()


def _tell() -> None:
    """Each suite, and what its script says of it."""
    about = importlib.import_module("..benchmarks.shown.reading", __package__).about
    told = Table(box=None, show_header=False, pad_edge=False)
    for suite in SUITES:
        told.add_row(suite, about(suite))
    Console().print(told)
