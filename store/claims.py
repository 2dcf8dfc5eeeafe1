"""Claims on answers that are being asked for, so that of several workers on one store one asks, and the others wait."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import StoreError

__all__ = ["Claims"]

_LEASE = 30.0  # seconds
_BEAT = 10.0
# The database's own clock: those of several machines differ.
_NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch FROM clock_timestamp())",
}


class Claims:
    """One worker's claims; safe to share between threads.

    A claim is a lease that is renewed while its worker lives. Where a worker was killed, or closed while its claims
    could not be ended, others of the same machine see that at once, and those of other machines when the lease has run
    out.

    Args:
        run: Runs a statement with ``?`` for values, and gives how many rows it changed.
        owner_of: Tells who has a key.
        dialect: ``sqlite`` or ``postgresql``.
    """

    def __init__(
        self,
        run: Callable[[str, Sequence[tuple[Any, ...]]], int],
        owner_of: Callable[[str], str | None],
        dialect: str,
    ) -> None:
        self._run, self._owner_of, now = run, owner_of, _NOW[dialect]
        self._host = socket.gethostname()
        self.owner = f"{self._host}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._take = (
            f"INSERT INTO claims (key, owner, until) VALUES (?, ?, {now} + ?) "  # noqa: S608 — our own text
            "ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until "
            f"WHERE claims.until < {now} OR claims.owner = ?"
        )
        self._renew = f"UPDATE claims SET until = {now} + ? WHERE owner = ?"  # noqa: S608
        self._held: set[str] = set()
        self._changed = threading.Condition()
        self._beating: threading.Thread | None = None

    def take(self, key: str) -> bool:
        """Claims a key; False where another one has it, or this worker already."""
        self._renew_from_now()  # by this, others of this process see that the worker lives
        if not self._run(self._take, [(key, self.owner, _LEASE, "")]):
            owner = self._owner_of(key)
            if owner is None or not self._is_dead(owner):
                return False
            if not self._run(self._take, [(key, self.owner, _LEASE, owner)]):
                return False
        with self._changed:
            self._held.add(key)
        return True

    def give_back(self, key: str) -> None:
        """Ends a claim; the answer is stored, or will not come."""
        with self._changed:
            self._held.discard(key)
        self._run("DELETE FROM claims WHERE key = ? AND owner = ?", [(key, self.owner)])

    def close(self) -> None:
        """Ends the renewal."""
        with self._changed:
            self._held.clear()
            beating, self._beating = self._beating, None
            self._changed.notify_all()
        if beating is not None:
            beating.join()

    def _renew_from_now(self) -> None:
        with self._changed:
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat, name=_beat_of(self.owner), daemon=True)
                self._beating.start()

    def _is_dead(self, owner: str) -> bool:
        host, pid, _ = owner.rsplit(":", 2)
        if host != self._host or not pid.isdigit():
            return False
        if int(pid) == os.getpid():
            return not any(thread.name == _beat_of(owner) for thread in threading.enumerate())
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _beat(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                # What ended before this thread got here is seen, too; to wait for news of it would take a whole beat.
                if self._changed.wait_for(lambda: self._beating is not me, _BEAT):
                    return
                held = bool(self._held)
            if held:
                try:
                    self._run(self._renew, [(_LEASE, self.owner)])
                except StoreError:
                    continue  # who uses the store finds out; a lease that runs out costs one answer at most


def _beat_of(owner: str) -> str:
    """The name of the thread that renews a worker's claims."""
    return f"progspace-claims {owner}"
