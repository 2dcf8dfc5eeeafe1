"""What is taken out of values before a trace keeps them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Redaction", "personal", "redacted"]

Redaction = Callable[[str, Any], Any]
"""Gives, for a field's name and its value as JSON, what may be kept."""

_PATTERNS = (
    ("[e-mail]", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")),
    # Keys as providers write them, and long runs of letters and digits, both in them, that no word is.
    ("[key]", re.compile(r"\b(?:sk|pk|rk|ghp|gho|xox[abp]|AKIA)[-_A-Za-z0-9]{12,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")),
    ("[key]", re.compile(r"\b(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{32,}={0,2}")),
    # An IBAN: a country, two digits, and letters and digits of which six or more are digits.
    ("[number]", re.compile(r"\b[A-Z]{2}\d{2}(?=(?:[A-Z ]{0,6}\d){6})(?: ?[A-Z0-9]){11,30}\b")),
    ("[number]", re.compile(r"(?<!\w)\+?\(?\d(?:[ ()/.-]{0,2}\d){7,}(?!\w)")),
)
# Passages are told by such ids; one inside a text may be a key.
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONG = 10**7  # the first whole number of eight digits: the pattern's


def personal(field: str, value: Any) -> Any:  # noqa: ARG001 — a redaction's
    """Takes out what looks like an e-mail address, a number of a phone, a card or an account, or a key.

    By patterns: a name or an address of a street stays, and a long number of any kind goes. A value that is a UUID and
    nothing else stays: ids of passages are.

    >>> personal("text", "Write to ann@example.org or call +47 555 01 234.")
    'Write to [e-mail] or call [number].'
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return "[number]" if abs(value) >= _LONG else value
    if not isinstance(value, str) or _ID.fullmatch(value):
        return value
    for mark, pattern in _PATTERNS:
        value = pattern.sub(mark, value)
    return value


def redacted(values: Mapping[str, Any], hooks: Iterable[Redaction]) -> dict[str, Any]:
    """Gives values after all hooks, each asked about every field and what is nested in it."""
    kept = dict(values)
    for hook in hooks:
        kept = {name: _deeply(hook, name, value) for name, value in kept.items()}
    return kept


def _deeply(hook: Redaction, name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deeply(hook, name, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_deeply(hook, name, each) for each in value]
    return hook(name, value)
