"""What compiled code says of itself: what it reads and imports, and where the modules stand that it is from."""

from __future__ import annotations

import dis
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from .source import source_text

__all__ = [
    "SCALARS", "attributes_in", "code_text", "folder_of", "globals_in", "imports_in", "place_of", "source_tells",
]  # fmt: skip

SCALARS = (type(None), bool, int, float, complex, str, bytes)
"""What is told by its ``repr`` alone."""


def code_text(code: CodeType) -> str:
    """Tells compiled code, and the code inside it."""
    return f"{code.co_code!r}{code.co_names!r}{_constants(code.co_consts)}"


def _constants(value: Any) -> str:
    if isinstance(value, CodeType):
        return code_text(value)
    if isinstance(value, tuple):
        return f"({','.join(map(_constants, value))})"
    return f"{{{','.join(sorted(map(_constants, value)))}}}" if isinstance(value, frozenset) else repr(value)


def source_tells(function: Any, code: CodeType) -> bool:
    """Whether a function's source tells its code: not for one lambda of two, cut short, or behind a decorator."""
    if hasattr(function, "__wrapped__"):
        return False
    text = source_text(function)
    if text is None:
        return all(isinstance(value, SCALARS) for value in code.co_consts)
    if function.__name__ != "<lambda>":
        return True
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    return text.count("lambda") == 1 and last < code.co_firstlineno + max(1, text.count("\n"))


def globals_in(code: CodeType, *does: str) -> Iterator[str]:
    """Names of the globals that code reads, or does otherwise, in order."""
    for each in dis.get_instructions(code):
        if each.opname in (does or ("LOAD_GLOBAL", "LOAD_NAME")):
            yield each.argval
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from globals_in(value, *does)


def attributes_in(code: CodeType) -> list[str]:
    """Names of the attributes, and of other things, that code reads, in order."""
    inner = [value for value in code.co_consts if isinstance(value, CodeType)]
    return list(dict.fromkeys((*code.co_names, *(name for each in inner for name in attributes_in(each)))))


def imports_in(code: CodeType) -> Iterator[tuple[str, int, tuple[str, ...] | None]]:
    """Modules that code imports as it runs: its name, how many packages up, which names of it."""
    loaded: list[Any] = []
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            level, names = loaded[-2:]
            yield each.argval, level, names
        elif each.opname.startswith("LOAD_"):
            loaded.append(each.argval)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from imports_in(value)


def folder_of(module: str) -> Path | None:
    """The folder in which a module stands that has been imported; None for any other."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).parent if file else None


def place_of(root: str) -> Path | None:
    """The folder in which a module, or a package, of the user's stands, imported or not."""
    if root in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(root)
    except ValueError:  # ``__main__`` has none
        return folder_of(root)
    if spec is None:
        return None
    inside = next(iter(spec.submodule_search_locations or ()), None) or spec.origin
    place = Path(inside).parent if inside else None
    return None if place is None or place.name in ("site-packages", "dist-packages") else place
