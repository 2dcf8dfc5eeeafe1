"""Optuna, kept from telling of studies that no person has asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from telling each study and trial on standard error."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
