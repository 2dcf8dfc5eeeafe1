"""Programs, metrics and LMs on their way to workers: by cloudpickle, which is Ray's own way between its processes.

It is for a search's own processes only; nothing that is read from a file is a pickle. What must not travel or cannot is
replaced by what stands for it there: keys by those of the worker's environment, the meter by one that asks the
search's, the store by the worker's own connection to it, the embedded engine by that of its node.
"""

from __future__ import annotations

import inspect
import io
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import dspy

from ...errors import ProgramError
from ...lms.budget import Meter
from ...lms.identity import without_secrets
from ...lms.keys import Keys
from ...lms.local import LocalEngine
from ...lms.remote_engine import RemoteEngine
from ..matrix import StoreAnswers
from ..runner import Work

__all__ = ["Standing", "received", "sent"]

Standing = tuple[str, Any]
"""What stands for an object, by its kind: ``meter``, ``answers``, ``keys``, ``local`` or ``remote`` engine."""

_SETTINGS = ("adapter", "rm", "interpreter_factory", "allow_tool_async_sync_conversion")
"""Of ``dspy.settings``: what decides what a program does."""
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def sent(work: Work, name_of: Callable[[Meter], str]) -> bytes:
    """Writes work for a worker.

    Classes and functions of the program and the metric that are no installed package's travel by value; what these
    import has to be importable at the workers.

    Args:
        work: To be run elsewhere.
        name_of: Gives the name under which a worker finds a meter again.

    Raises:
        ProgramError: Something of it cannot travel.
    """
    written = io.BytesIO()
    settings = {name: dspy.settings.get(name) for name in _SETTINGS}
    try:
        with _by_value(_own_modules(work)):
            _Pickler(written, name_of).dump((work, settings))
    except Exception as error:  # whatever the user's own objects raise
        raise ProgramError(
            "the program, its metric or what dspy.settings holds cannot be sent to Ray's workers "
            f"({type(error).__name__}: {error}); it has to hold no open files, locks, connections or embedded "
            "collections: make them at their first use, or leave out workers='ray'"
        ) from error
    return written.getvalue()


def received(written: bytes, found: Callable[[str, Any], Any]) -> tuple[Work, dict[str, Any]]:
    """Reads work, and those of the caller's settings that it runs under.

    Args:
        written: By `sent`, in a process of the same search.
        found: Gives the object for what stands for it.
    """
    work, settings = _Unpickler(io.BytesIO(written), found).load()
    return work, settings


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, name_of: Callable[[Meter], str]) -> None:
        super().__init__(file)
        self._name_of = name_of

    def persistent_id(self, thing: Any) -> Standing | None:
        if isinstance(thing, Meter):
            return "meter", (self._name_of(thing), thing.budget)
        if isinstance(thing, StoreAnswers):
            return "answers", None
        if isinstance(thing, Keys):
            return "keys", None
        if isinstance(thing, LocalEngine):
            return "local", thing.dump_state()
        if isinstance(thing, RemoteEngine):
            return "remote", (*thing.settings(), getattr(thing.ledger, "name", None))
        return None

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, dspy.BaseLM):
            state = dict(thing.__getstate__() if hasattr(thing, "__getstate__") else thing.__dict__)
            state |= {"kwargs": without_secrets(thing.kwargs), "history": [], "callbacks": []}
            if "provider" in state:
                state["provider"] = None  # workers train nothing
            return object.__new__, (type(thing),), state
        return super().reducer_override(thing)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, found: Callable[[str, Any], Any]) -> None:
        super().__init__(file)
        self._found = found

    def persistent_load(self, standing: Standing) -> Any:
        return self._found(*standing)


def _own_modules(work: Work) -> set[ModuleType]:
    """Modules of the user's that define what the work is made of; workers may not have them."""
    module = getattr(work.program, "module", work.program)
    kinds: list[Any] = [work.scoring.metric, *(type(part) for _, part in module.named_sub_modules())]
    kinds += [kind for predictor in module.predictors() for kind in predictor.signature.__mro__]
    homes = {inspect.getmodule(kind if inspect.isroutine(kind) else _kind(kind)) for kind in kinds}
    return {home for home in homes if home is not None and _is_own(home)}


def _kind(thing: Any) -> Any:
    return thing if inspect.isclass(thing) else type(thing)


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__" or sys.modules.get(module.__name__) is not module:
        return False
    ours = __name__.partition(".")[0]
    if module.__name__.partition(".")[0] == ours and not module.__name__.startswith(f"{ours}.tests"):
        return False
    return not any(Path(file).resolve().is_relative_to(place) for place in _INSTALLED)


@contextmanager
def _by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    registered = [module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)
