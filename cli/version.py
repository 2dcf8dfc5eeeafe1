"""``progspace --version``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

__all__ = ["add_root"]


def add_root(app: typer.Typer) -> None:
    """Adds what stands before a command to the command line."""
    app.callback()(root)


def _tell(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"progspace {version_of('progspace')}\n")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell, help="Say which release this is.")
    ] = False,
) -> None:
    """Takes what stands before a command."""
