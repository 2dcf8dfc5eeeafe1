"""Reads what a process prints, for so long and so much as it may."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from typing import Literal

__all__ = ["read_pipes"]

_CHUNK = 2**16


def read_pipes(
    process: subprocess.Popen[bytes], *, seconds: float, size: int
) -> tuple[bytes, bytes, Literal["wall time", "output"] | None]:
    """Reads standard output and standard error until the process and all that hold its pipes have ended.

    ``Popen.communicate`` does so as well, but keeps all of it, however much it is.

    Args:
        process: With both as pipes.
        seconds: How long at most.
        size: How many bytes of each at most.

    Returns:
        Both, cut at ``size``, and why it was read no further; the process is not ended by this.
    """
    assert process.stdout is not None  # noqa: S101 — for the types
    assert process.stderr is not None  # noqa: S101
    deadline = time.monotonic() + seconds
    found: dict[int, bytearray] = {}
    order = [process.stdout.fileno(), process.stderr.fileno()]
    why: Literal["wall time", "output"] | None = None
    with selectors.DefaultSelector() as waiting:
        for number in order:
            found[number] = bytearray()
            waiting.register(number, selectors.EVENT_READ)
        while waiting.get_map() and why is None:
            left = deadline - time.monotonic()
            ready = waiting.select(left) if left > 0 else []
            if not ready and deadline <= time.monotonic():
                why = "wall time"
            for key, _ in ready:
                text = os.read(key.fd, _CHUNK)
                found[key.fd] += text
                if not text:
                    waiting.unregister(key.fd)
                elif len(found[key.fd]) > size:
                    why = "output"
    if why is None:  # both are closed; a program may close them, and go on
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            why = "wall time"
    out, err = (bytes(found[number][:size]) for number in order)
    return out, err, why
