"""The text of what a user has written, by which it is told from what he wrote before."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["source_text"]

_parsing = threading.Lock()


def source_text(owner: type | Callable[..., Any]) -> str | None:
    """Gives the source of a class or a function; None where it has none.

    >>> source_text(source_text).splitlines()[0][:16]
    'def source_text('
    """
    with _parsing:  # CPython's parser counts its depth for all threads together, and fails where two of them parse
        return _known(owner)


@functools.lru_cache(maxsize=4096)
def _known(owner: type | Callable[..., Any]) -> str | None:
    try:
        text = inspect.getsource(owner)
        # Python gives the text of the last class of this name in the file.
        return None if any(inspect.getsource(each) not in text for each in _methods(owner)) else text
    except (OSError, TypeError):
        return None


def _methods(owner: type | Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Gives a class's methods that were written inside it."""
    for value in vars(owner).values() if isinstance(owner, type) else ():
        function = getattr(value, "__func__", value)
        code = getattr(function, "__code__", None)
        if code is None or code.co_filename != inspect.getfile(owner):
            continue
        if getattr(code, "co_qualname", "") == f"{owner.__qualname__}.{code.co_name}":  # Python 3.10 does not tell
            yield function
