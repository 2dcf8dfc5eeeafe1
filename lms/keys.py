"""API keys: where they come from, and where they must not go."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Keys"]

_VARIABLE = "OPENAI_API_KEY"
_SHOWN = 400
_SHORTEST = 8
"""A key below that keeps nothing secret ("none", for a server that wants none), and its letters stand in every text."""


class Keys:
    """Gives an endpoint's key, and takes it out of what is shown; its repr does not hold it.

    Args:
        given: The key; or a function that gives it, and is asked again when the endpoint refuses the last one as
            expired. None for the environment's ``OPENAI_API_KEY``, which is read again then too.

    >>> keys = Keys("a secret")
    >>> keys, keys.current(), keys.scrubbed("a secret was refused")
    (Keys(…), 'a secret', '(key) was refused')
    """

    missing = (
        f"there is no API key: set {_VARIABLE}, or give one, or a function that does, by api_key (for an endpoint that "
        "wants none, any text will do)"
    )

    def __init__(self, given: str | Callable[[], str] | None = None) -> None:
        self._give = given if callable(given) else None
        self._fixed = given if isinstance(given, str) else None
        self._last = ""
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Keys(…)"

    def __copy__(self) -> Keys:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Keys:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Keys, ()  # a pickle holds no key: where it is read, that environment's is taken

    def current(self) -> str:
        """Gives the last key, or asks for the first; empty where there is none."""
        return self._last or (self._last if self.renew("") else "")

    def renew(self, refused: str) -> bool:
        """Asks for another key than the one that was refused; tells whether there is one."""
        with self._lock:
            if self._last == refused:
                key = self._fixed or (self._give() if self._give else os.environ.get(_VARIABLE, ""))
                self._last = key or self._last
                self._known.add(self._last)
            return self._last != refused

    def scrubbed(self, text: object) -> str:
        """Gives the beginning of a text, without the keys or what looks like one."""
        plain = str(text)
        for key in sorted(self._known, key=len, reverse=True):
            if len(key) >= _SHORTEST:
                plain = plain.replace(key, "(key)")
        plain = re.sub(r"\b(sk-|Bearer\s)[^\s'\",}]+", "(key)", plain)
        return " ".join(plain.split())[:_SHOWN]

    @property
    def mend(self) -> str:
        """What to do about a key that was refused."""
        if self._give:
            return "the function that gives it has no other"
        return "give a valid one" if self._fixed else f"set {_VARIABLE} to a valid one"
