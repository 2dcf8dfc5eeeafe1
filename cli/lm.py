"""``progspace lm``: an LM that several processes share."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import LMError, ProgramError
from .arguments import HostOption, InsecureOption, PortOption
from .serving import KEY

__all__ = ["add_lm"]

lm_app = typer.Typer(help="An LM that several processes share.", no_args_is_help=True)


def add_lm(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(lm_app, name="lm")


@lm_app.callback()
def _lm() -> None:
    """Makes a group of a single command."""


@lm_app.command()
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models of `progspace models list`, GGUF files, or OpenVINO folders; "
            "the embedded LM and, where it is installed, the embedder by default."
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for an answer; then 504.")] = 300.0,
    body: Annotated[int, typer.Option("--body", min=1, help="Bytes of a request's body; then 413.")] = 2**22,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Answers at a time; then 429.")] = 256,
    insecure: InsecureOption = False,
    precision: Annotated[
        Literal["f32", "bf16"], typer.Option("--precision", help="Of generation; bf16 is faster, and less exact.")
    ] = "f32",
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="Trained weights of the one LM that is served.")
    ] = None,
) -> None:
    """Serves LMs as OpenAI's API has it: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`.

    All who ask share one engine, and its batches: `ps.lm("openai/smollm2-135m", base_url="http://127.0.0.1:8000/v1")`.
    If the environment has `PROGSPACE_API_KEY`, calls need it as a bearer key. SIGTERM lets the calls in flight end.

    Example: `progspace lm serve --port 8000`
    """
    try:
        import uvicorn as _uvicorn  # noqa: F401
    except ImportError as error:
        raise ProgramError(f"serving needs {error.name}: pip install 'progspace[serve]'") from error
    from ..serving.lm_http import lm_application
    from ..serving.server import check_host, run
    from ..serving.service import Limits

    key = os.environ.get(KEY) or None
    check_host(host, keyed=key is not None, insecure=insecure)
    engines, embedders = _served(models or _by_default(), precision, adapter)
    logging.getLogger("progspace").setLevel(logging.INFO)
    limits = Limits(body=body, seconds=timeout, concurrency=concurrency)
    run(lm_application(engines, embedders, limits=limits, key=key), host=host, port=port)


def _by_default() -> list[str]:
    from ..lms.models import DEFAULT_EMBEDDER, DEFAULT_MODEL, installed

    return [DEFAULT_MODEL, *([DEFAULT_EMBEDDER] if installed(DEFAULT_EMBEDDER) else [])]


def _served(models: list[str], precision: Any, adapter: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives LMs and embedders by the names under which they are asked: of a file or folder, its own."""
    from ..lms.embedder import embedder_for
    from ..lms.local import AsyncLocalEngine, LocalEngine
    from ..lms.models import EMBEDDERS, MODELS

    embedders = {name: embedder_for(name) for name in models if name in EMBEDDERS}
    lms = [name for name in models if name not in EMBEDDERS]
    if adapter is not None and len(lms) != 1:
        raise LMError("--adapter is of one LM: name that one, and no other")
    engines: dict[str, Any] = {}
    for model in lms:
        name = model if model in MODELS else Path(model).expanduser().resolve().stem
        if name in engines:
            raise LMError(f"two of the models are called {name}: serve one of them from another port")
        engines[name] = AsyncLocalEngine(LocalEngine(model, precision=precision, adapter=adapter))
    return engines, embedders
