"""Refuses numbers that the command line refuses, too, before anything is paid for."""

from __future__ import annotations

from ..errors import DataError

__all__ = ["check_alpha", "check_at_least"]


def check_alpha(alpha: float) -> None:
    """Refuses what is no probability of an error.

    Raises:
        DataError: It does not lie between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise DataError(f"alpha lies between 0 and 1, as 0.05 does; it is {alpha}")


def check_at_least(least: int, **arguments: int | None) -> None:
    """Refuses arguments that are too small; None is not given.

    Raises:
        DataError: One is; it is named.

    >>> check_at_least(1, repeats=3, test_rows=None)
    >>> check_at_least(0, seed=-1)
    Traceback (most recent call last):
    progspace.errors.DataError: seed=-1: should be greater than or equal to 0
    """
    for name, value in arguments.items():
        if value is not None and not value >= least:
            raise DataError(f"{name}={value}: should be greater than or equal to {least}")
