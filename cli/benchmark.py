"""``progspace benchmark``."""

from __future__ import annotations

from contextlib import redirect_stdout
from typing import Annotated

import typer

from .arguments import results

__all__ = ["add_benchmark"]


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
    from ..benchmarks.__main__ import run, tell

    with redirect_stdout(results()):  # what a suite prints is what it tells
        if suite in ("", "--help"):
            typer.echo(context.get_help())
            tell()
        else:
            run(suite, context.args, "progspace benchmark")
