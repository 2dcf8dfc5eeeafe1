"""What commands share: their arguments and options, and what these name."""

from __future__ import annotations

import codecs
import functools
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from ..errors import DataError, ProgspaceError

__all__ = [
    "DEFAULT_STORE",
    "AlphaOption",
    "ArtifactArgument",
    "BaseUrlOption",
    "DataOption",
    "HostOption",
    "InsecureOption",
    "JsonOption",
    "KnownOption",
    "LmOption",
    "MarginOption",
    "OtherLmOption",
    "PortOption",
    "ProgramArgument",
    "SeedOption",
    "SplitOption",
    "StoreOption",
    "TaskArgument",
    "TestRowsOption",
    "TracesNameOption",
    "WorkersOption",
    "artifact_path",
    "fail",
    "find_lm",
    "find_other_lm",
    "find_program",
    "find_strangeness",
    "find_task",
    "finite",
    "given",
    "prints_apart",
    "results",
    "show",
    "target",
    "tell",
    "utf8",
]

DEFAULT_STORE = ".progspace/store.db"

TaskArgument = Annotated[
    str,
    typer.Argument(
        help="`FILE.py:NAME` or `package.module:NAME` of a Task or a function that makes one; `sentiment`; or a "
        "published benchmark's file: `bbh:FILE`, `gsm8k:FILE`, `squad:FILE`."
    ),
]
ArtifactArgument = Annotated[str, typer.Argument(help="A `.progspace.json` artifact, or `@TAG` of the registry.")]
ProgramArgument = Annotated[
    str,
    typer.Argument(
        help="A `.progspace.json` artifact, `@TAG` of the registry, or `baseline`: as the task declares it."
    ),
]
LmOption = Annotated[
    str, typer.Option("--lm", help="`local`, `local:/path`, or a model as DSPy names it: `openai/gpt-4o-mini`.")
]
OtherLmOption = Annotated[
    str | None, typer.Option("--lm", help="Another LM than the one it was compiled for, as in `compile`.")
]
BaseUrlOption = Annotated[str | None, typer.Option("--base-url", help="Of an OpenAI-compatible endpoint.")]
StoreOption = Annotated[
    str,
    typer.Option("--store", help="Where cells and answers are remembered: a file, or a PostgreSQL database's URL."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
KnownOption = Annotated[
    str | None,
    typer.Option("--known", metavar="TASK", help="What it was compiled for: are the calls' inputs like its examples?"),
]
HostOption = Annotated[str, typer.Option("--host", help="The address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Without a key, also where other machines reach it.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of draws and intervals.")]
TestRowsOption = Annotated[
    int | None, typer.Option("--test-rows", min=1, help="Read only so many examples of the sealed test.")
]
TracesNameOption = Annotated[
    str | None, typer.Option("--name", help="Under which traces stand; the task's by default.")
]
SplitOption = Annotated[str, typer.Option("--split", help="`dev`, or `test`: the sealed one.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Examples in place of a split: `.jsonl`, `.json`, `.csv`, `.parquet`.")
]
MarginOption = Annotated[
    float, typer.Option("--margin", help="The loss that is put up with, in units of the score: 0.01 is a point.")
]
AlphaOption = Annotated[float, typer.Option("--alpha", help="How often a verdict is wrong, at most.")]


def _workers(told: str) -> int | str:
    if re.fullmatch(r"[1-9]\d*|ray(:[1-9]\d*)?", told) is None:
        raise typer.BadParameter(f"{told!r} is neither a number of threads nor `ray` or `ray:N`")
    return int(told) if told.isdecimal() else told


WorkersOption = Annotated[
    Any,
    typer.Option(
        "--workers",
        parser=_workers,
        metavar="N|ray|ray:N",
        help="Examples that run at a time; or `ray`, a Ray cluster, with a worker for each CPU or with N.",
    ),
]


_results: ContextVar[TextIO] = ContextVar("results")


def results() -> TextIO:
    """Gives standard output, which holds what a command tells and nothing that the user's program prints."""
    return _results.get(sys.stdout)


def prints_apart(command: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a command during which what is printed goes to standard error; only `results` are for standard output."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        token = _results.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr):
                return command(*arguments, **options)
        finally:
            _results.reset(token)

    return run


def show(document: dict[str, Any], view: RenderableType, as_json: bool) -> None:
    """Writes a result to standard output, for people or as JSON."""
    if as_json:
        told = json.dumps(finite(document), ensure_ascii=not utf8(), indent=2, default=str)
        results().write(told + "\n")
    else:
        Console(file=results()).print(view, crop=False)


def finite(value: Any) -> Any:
    """Gives a value with null in place of what is no finite number: no reader of JSON has to know ``NaN``."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utf8() -> bool:
    """Tells whether standard output takes every character; JSON escapes them where it does not."""
    return codecs.lookup(results().encoding or "utf-8").name == "utf-8"


def tell(line: str) -> None:
    """Says something beside the result, on standard error."""
    Console(stderr=True).print(Text(line), soft_wrap=True)


def find_lm(name: str, base_url: str | None) -> Any:
    """Finds an LM by its name."""
    from ..lms.factory import lm

    try:
        return lm(name, base_url=base_url)
    except ValueError as error:
        raise DataError(str(error)) from error


def find_other_lm(name: str | None, base_url: str | None) -> Any:
    """Finds the LM that an artifact shall run on; None for its own."""
    if name is not None:
        return find_lm(name, base_url)
    if base_url is not None:
        raise DataError("--base-url says where the LM of --lm is: give both")
    return None


def find_strangeness(task: str) -> Any:
    """Finds a task, and makes what tells how far inputs are from its examples."""
    from ..monitoring.inputs import Strangeness

    return Strangeness(find_task(task))


def find_task(reference: str) -> Any:
    """Finds a task: the ready-made one, or one of the user's own code, which is run."""
    from ..programs.task import Task

    if reference == "sentiment":
        from ..programs import sentiment

        return sentiment.task()
    kind, _, path = reference.partition(":")
    if path and not path.isidentifier():  # a name after the colon is one of a module that is called so
        from ..programs.published import PUBLISHED

        if kind in PUBLISHED:
            return PUBLISHED[kind](path)
    place, colon, name = reference.rpartition(":")
    if not colon:
        raise DataError(f"{reference!r} names no task: FILE.py:NAME, package.module:NAME, or sentiment")
    if place.endswith(".py"):
        module = _module_of_file(Path(place))
    else:
        sys.path.insert(0, str(Path.cwd()))
        with _of_the_users(place):
            try:
                module = importlib.import_module(place)
            except ModuleNotFoundError as error:
                if f"{place}.".startswith(f"{error.name or place}."):
                    raise DataError(f"{place}: no such module ({error})") from error
                raise  # of one that the user's own module imports
    found = getattr(module, name, None)
    if callable(found) and not isinstance(found, Task):
        with _of_the_users(f"{place}: {name}()"):
            found = found()
    if not isinstance(found, Task):
        known = ", ".join(key for key, value in vars(module).items() if isinstance(value, Task))
        known = known or "none (a function that makes one serves as well)"
        raise DataError(f"{place}: {name!r} is not a progspace Task; tasks in it: {known}")
    return found


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with _of_the_users(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]  # half made, it would be taken for whole
        raise
    return module


@contextmanager
def _of_the_users(place: str) -> Iterator[None]:
    """Tells an error of the user's own code in a line, and where it is: a traceback ends with the status of *worse*."""
    try:
        yield
    except ProgspaceError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        at = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        raise DataError(f"{place}: {type(error).__name__}: {error}{at}") from error


def find_program(reference: str, task: Any, lm: Any) -> Any:
    """Finds a program: an artifact's, or the task's as declared."""
    if reference == "baseline":
        return task.program
    from ..artifacts.load import load

    return load(artifact_path(reference), lm=lm, program=task.program)


def artifact_path(reference: str) -> Path:
    """Finds an artifact: a file, or ``@TAG`` (or ``@HASH``) of the registry."""
    from ..artifacts.registry import artifact_path as found

    return found(reference)


def target(path: Path) -> Path:
    """Gives where something is to be written; where it cannot be, that is told before anything is paid for."""
    if path.is_dir():
        raise DataError(f"{path}: a directory; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error})", file=str(path)) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):  # a file that is replaced need not be writable itself
        raise DataError("cannot be written (its folder may not be written to)", file=str(path))
    return path


def given(fields: list[str]) -> dict[str, str]:
    """Reads what was given as ``name=value``."""
    pairs = [field.partition("=") for field in fields]
    for name, equals, _ in pairs:
        if not equals:
            raise DataError(f"{name!r} is not of the form name=value")
    return {name: value for name, _, value in pairs}


def fail(message: str, status: int = 2) -> NoReturn:
    """Says on standard error why it ends, and ends."""
    Console(stderr=True).print(Text.assemble(("progspace:", "red"), f" {message}"), soft_wrap=True)
    sys.exit(status)
