"""``progspace serve``: a compiled program over HTTP, or as a tool over MCP."""

from __future__ import annotations

import logging
import os
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from ..errors import ProgramError
from .arguments import (
    DEFAULT_STORE,
    ArtifactArgument,
    BaseUrlOption,
    HostOption,
    InsecureOption,
    KnownOption,
    OtherLmOption,
    PortOption,
    StoreOption,
    artifact_path,
    find_other_lm,
    find_strangeness,
    results,
)

__all__ = ["add_serving"]

KEY = "PROGSPACE_API_KEY"


def add_serving(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(serve)


def serve(
    artifact: ArtifactArgument,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    lm: OtherLmOption = None,
    base_url: BaseUrlOption = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for a call; then 504.")] = 60.0,
    retries: Annotated[int, typer.Option("--retries", min=0, help="New attempts after what may pass.")] = 0,
    body: Annotated[int, typer.Option("--body", min=1, help="Bytes of a request's body; then 413.")] = 2**20,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Calls at a time; then 429.")] = 64,
    insecure: InsecureOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep a trace of each call in the store: `progspace traces`, `monitor`.")
    ] = False,
    content: Annotated[
        bool, typer.Option("--content", help="With --watch: inputs and outputs, too; what looks personal is taken out.")
    ] = False,
    known: KnownOption = None,
    store: StoreOption = DEFAULT_STORE,
    mcp: Annotated[bool, typer.Option("--mcp", help="A tool over MCP on standard input and output, no HTTP.")] = False,
) -> None:
    """Serves a compiled program: `POST /predict` with its inputs as JSON; `/openapi.json`, `/health`, `/ready`.

    With `--watch` an answer's header `Progspace-Trace` names its trace, for `progspace feedback`.

    If the environment has `PROGSPACE_API_KEY`, calls need it as a bearer key. SIGTERM lets the calls in flight end.

    Example: `progspace serve sentiment.progspace.json --port 8000`
    """
    try:
        import mcp as _mcp  # noqa: F401
        import uvicorn as _uvicorn  # noqa: F401
    except ImportError as error:
        raise ProgramError(f"serving needs {error.name}: pip install 'progspace[serve]'") from error
    from ..artifacts.artifact import read_hashed
    from ..artifacts.load import program_of
    from ..serving.guard import guarded

    key = os.environ.get(KEY) or None
    path = artifact_path(artifact)
    digest, read = read_hashed(path)
    model = find_other_lm(lm, base_url)
    program: Any = guarded(program_of(read, lm=model, path=path, digest=digest), retries=retries)
    if (content or known) and not watch:
        raise ProgramError("--content and --known say what --watch keeps: give both")
    if watch:
        from ..monitoring.redaction import personal
        from ..monitoring.watching import watch as watched

        signals = {} if known is None else {"strangeness": find_strangeness(known)}
        program = watched(program, store=store, content=content, redact=[personal], signals=signals)
    # What the author wrote, and not the prompt that the search found.
    description = str(read.structure.get("signature", {}).get("instructions", ""))
    logging.getLogger("progspace").setLevel(logging.INFO)
    if mcp:
        from ..serving import mcp as tool

        with redirect_stdout(results()):
            tool.run(tool.server(program, name=read.task, description=description, seconds=timeout))
        return
    from ..serving import http, server

    server.check_host(host, keyed=key is not None, insecure=insecure)
    limits = http.Limits(body=body, seconds=timeout, concurrency=concurrency)
    app = http.application(program, name=read.task, description=description, limits=limits, key=key)
    server.run(app, host=host, port=port)
