"""How many requests and tokens an endpoint grants: as its headers tell, or as its refusals teach."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Allowance", "Mark", "seconds_of"]

_SLACK = 0.7  # of the pace at which an endpoint refused that does not tell its limits
_RISE = 0.02  # requests a second more, for each answer since
_SPAN = 10.0  # seconds over which the pace is measured
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d*)?)s)?(?:(\d+(?:\.\d*)?)ms)?")


def seconds_of(text: str) -> float | None:
    """Reads a duration as rate-limit headers write it; None where it is none.

    >>> seconds_of("6m0s"), seconds_of("120ms"), seconds_of("7.5"), seconds_of("soon")
    (360.0, 0.12, 7.5, None)
    """
    if re.fullmatch(r"\d+(\.\d*)?", text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


@dataclass(slots=True)
class Bucket:
    """What is left of one kind, filled again at a rate; what was taken in all marks each request's place in the line.

    Of a limit that is counted by fixed windows the rate is a guess, which the next answer puts right.
    """

    limit: float | None = None
    left: float = 0.0
    rate: float | None = None
    at: float = 0.0
    taken: float = 0.0
    told_of: float = 0.0

    def take(self, amount: float, now: float) -> float:
        self.left, self.at = self._left(now) - amount, now
        self.taken += amount
        return self.taken

    def told(self, limit: float, remaining: float, reset: float | None, mark: float, now: float) -> None:
        """Takes what an answer tells; what was sent after its request, the endpoint had perhaps not counted yet."""
        if mark < self.told_of:
            return
        self.told_of, self.limit, self.at = mark, limit, now
        self.left = remaining - (self.taken - mark)
        used = limit - remaining - 0.5  # what remains is told in whole numbers
        if reset and used > 0 and (self.rate is None or used > limit / 4):
            self.rate = used / reset

    def wait(self, amount: float, now: float) -> float:
        if self.limit is None:
            return 0.0
        lacking = min(amount, self.limit) - self._left(now)
        return 0.0 if lacking <= 0 else lacking / self.rate if self.rate else 1.0

    def _left(self, now: float) -> float:
        filled = self.left + (self.rate or 0.0) * max(0.0, now - self.at)
        return filled if self.limit is None else min(filled, self.limit)


@dataclass(frozen=True, slots=True)
class Mark:
    """A request's place in the line, by what was taken when it was sent."""

    requests: float
    tokens: float


@dataclass(slots=True)
class Allowance:
    """Tells how long to wait before a request may be sent; plain data, so that processes can share it.

    Where answers carry ``x-ratelimit-limit-requests``, ``-remaining-`` and ``-reset-``, and the same of tokens, they
    are believed. Where they do not, the pace at which the endpoint refused (429) is cut, and raised again by little.
    ``Retry-After`` is waited for.

    >>> allowance = Allowance()
    >>> mark = allowance.take(tokens=100, now=0.0)
    >>> headers = {f"x-ratelimit-{word}-requests": value for word, value in
    ...            {"limit": "60", "remaining": "0", "reset": "60s"}.items()}
    >>> allowance.told(headers, mark, now=0.0)
    False
    >>> round(allowance.wait(tokens=100, now=0.5), 1)
    0.5
    """

    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    closed_until: float = 0.0
    learnt: bool = False
    cut_at: float = 0.0
    flow: float = 0.0  # answers, those of long ago counted less
    flow_at: float = 0.0
    flow_since: float | None = None

    def wait(self, tokens: float, now: float) -> float:
        """Gives the seconds until a request of so many tokens may be sent."""
        return max(self.requests.wait(1, now), self.tokens.wait(tokens, now), self.closed_until - now, 0.0)

    def take(self, tokens: float, now: float) -> Mark:
        """Takes note that a request is sent."""
        return Mark(self.requests.take(1, now), self.tokens.take(tokens, now))

    def told(self, headers: Mapping[str, str], mark: Mark, now: float) -> bool:
        """Takes what an answer's headers tell; tells whether they say that more is granted."""
        more = None
        for bucket, kind, place in ((self.requests, "requests", mark.requests), (self.tokens, "tokens", mark.tokens)):
            limit, remaining = (_number(headers.get(f"x-ratelimit-{word}-{kind}")) for word in ("limit", "remaining"))
            if limit is None or remaining is None or limit <= 0:
                continue
            reset = seconds_of(headers.get(f"x-ratelimit-reset-{kind}", ""))
            bucket.told(limit, remaining, reset, place, now)
            more = remaining >= 1 and more is not False
            self.learnt = self.learnt and bucket is not self.requests
        return bool(more)

    def answered(self, now: float) -> None:
        """Takes note of an answer."""
        self.flow = 1 + self._faded(now)
        self.flow_at, self.flow_since = now, now if self.flow_since is None else self.flow_since
        if self.learnt:
            self._pace((self.requests.rate or 0.0) + _RISE, now)

    def refused(self, mark: Mark, pause: float | None, now: float) -> None:
        """Takes note of a 429 that no header explains: of its pause, and, once for all that was sent before, a cut."""
        self.closed_until = max(self.closed_until, now + (pause or 0.0))
        if mark.requests <= self.cut_at or (self.requests.limit is not None and not self.learnt):
            return
        self.cut_at = self.requests.taken
        before = self.requests.rate if self.learnt and self.requests.rate else self._measured(now)
        self.learnt = True
        self._pace(_SLACK * before, now)
        self.requests.left = min(self.requests.left, 0.0)

    def _faded(self, now: float) -> float:
        return self.flow * math.exp(min(0.0, self.flow_at - now) / _SPAN)

    def _measured(self, now: float) -> float:
        """Answers a second, of late."""
        seen = max(1.0, now - self.flow_since) if self.flow_since is not None else 1.0
        return max(1.0, self._faded(now)) / (_SPAN * (1 - math.exp(-seen / _SPAN)))

    def _pace(self, rate: float, now: float) -> None:
        bucket = self.requests
        bucket.left, bucket.at = bucket._left(now) if bucket.limit is not None else 0.0, now
        bucket.rate = rate
        bucket.limit = max(1.0, rate)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d+(\.\d*)?", text) else None
