"""Numbers as people read them: the one place that formats them."""

from __future__ import annotations

import math

from .statistics import Interval

__all__ = [
    "count",
    "dollars",
    "duration",
    "figure",
    "interval",
    "p_told",
    "p_value",
    "percent",
    "points",
    "points_between",
]


def percent(share: float) -> str:
    """A share of one.

    >>> percent(0.8649)
    '86.5 %'
    """
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points.

    >>> points(0.031), points(-0.2)
    ('+3.1', '−20.0')
    """
    return f"{'−' if difference < 0 else '+'}{abs(100 * difference):.1f}"


def points_between(low: float, high: float) -> str:
    """An interval of a difference of two shares, in percentage points.

    >>> points_between(-0.02, 0.031)
    '[−2.0, +3.1]'
    """
    return f"[{points(low)}, {points(high)}]"


def interval(of: Interval) -> str:
    """An interval of a share.

    >>> interval(Interval(0.8, 0.9, 0.95, "Wilson"))
    '80.0–90.0'
    """
    return f"{100 * of.low:.1f}–{100 * of.high:.1f}"


def count(number: float) -> str:
    """A number of things.

    >>> count(12345.6)
    '12,346'
    """
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time.

    >>> duration(0.0123), duration(42), duration(191)
    ('12 ms', '42 s', '3 min 11 s')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def dollars(amount: float) -> str:
    """An amount of US dollars.

    >>> dollars(1.234), dollars(0.00123)
    ('1.23', '0.0012')
    """
    return f"{amount:.2f}" if amount >= 0.01 or not amount else f"{amount:.4f}"


def p_value(p: float) -> str:
    """A p-value.

    >>> p_value(0.00001), p_value(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_told(p: float) -> str:
    """A p-value in a sentence, after its name.

    >>> f"p {p_told(0.0312)}", f"p {p_told(0.0)}"
    ('p = 0.031', 'p < 0.001')
    """
    told = p_value(p)
    return told if told.startswith("<") else f"= {told}"


def figure(value: float) -> str:
    """A number of which nothing is known: with as many digits as tell something.

    >>> figure(12345), figure(0.0123456), figure(7.25), figure(1234.56)
    ('12,345', '0.01235', '7.25', '1,235')
    """
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
