"""The commands, and how the command line ends."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer
from typer.models import CommandInfo

from ..errors import ProgspaceError
from .arguments import fail, prints_apart
from .benchmark import add_benchmark
from .compiling import add_compile
from .edge_cases import add_edge
from .gate import add_gate
from .lm import add_lm
from .models import add_models
from .monitoring import add_watch
from .page import add_page
from .programs import add_programs
from .retrieval import add_retrieval
from .serving import add_serving
from .store import add_store
from .transfer import add_transfer
from .version import add_root
from .versions import add_versions

__all__ = ["app", "main"]

_PANELS: dict[str, tuple[Callable[[typer.Typer], None], ...]] = {
    "Search": (add_compile, add_programs, add_page),
    "Documents": (add_retrieval,),
    "Versions": (add_gate, add_versions, add_transfer),
    "Weak spots": (add_edge,),
    "In use": (add_serving, add_watch),
    "What it runs on": (add_models, add_lm, add_store, add_benchmark),
}


def _application() -> typer.Typer:
    made = typer.Typer(
        name="progspace",
        help="Searches program space for the program that empirically performs best on your task.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    add_root(made)
    for panel, parts in _PANELS.items():
        known = len(made.registered_commands), len(made.registered_groups)
        for add in parts:
            add(made)
        for command in made.registered_commands[known[0] :]:
            command.rich_help_panel = panel
        for group in made.registered_groups[known[1] :]:
            group.rich_help_panel = panel
    for command in _commands(made):
        if command.callback is not None:
            command.callback = prints_apart(command.callback)
    return made


def _commands(made: typer.Typer) -> Iterator[CommandInfo]:
    yield from made.registered_commands
    for group in made.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance)


app = _application()


def main() -> None:
    """Runs the command line and leaves with its exit status."""
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 — to the end
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere  # None where whoever began it closed them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal or a pipe of cp1252 has no "−"
    try:
        _run()
    except BrokenPipeError:
        _unheard()
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # which rich and typer end with 1, and that is *worse*
            _unheard()
        raise
    except Exception:  # not even standard error can be written
        sys.exit(2)  # Python's own is 1, and that is *worse*


def _unheard() -> NoReturn:
    """Leaves quietly where nobody reads on, with the status that a shell gives to SIGPIPE."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)  # else what is still to be written fails once more at the very end
    sys.exit(141)


def _run() -> None:
    for name in ("dspy", "LiteLLM", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a candidate that rambles is a score, not news
    status: int | None = None
    try:
        status = app(standalone_mode=False)  # what a command raised as `typer.Exit`
        sys.stdout.flush()
    except ProgspaceError as error:
        fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        fail("interrupted", status=130)
    except BrokenPipeError:
        raise
    except Exception as error:
        if type(error).__module__.startswith(("typer", "click")) and hasattr(error, "format_message"):
            if not error.format_message():  # a group without a command, which tells its own
                sys.exit(2)
            fail(error.format_message())
        traceback.print_exc()
        sys.exit(2)  # Python's own is 1, and that is *worse*
    if status == 130:  # typer's word for Ctrl-C
        fail("interrupted", status=130)
    if status:
        sys.exit(status)
