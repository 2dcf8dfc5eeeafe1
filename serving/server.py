"""Runs an application until it is told to stop, and lets the calls in flight end."""

from __future__ import annotations

import ipaddress
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from ..errors import ProgramError

__all__ = ["check_host", "run"]


def check_host(host: str, *, keyed: bool, insecure: bool) -> None:
    """Refuses to be reached from other machines without a key.

    Raises:
        ProgramError: The host is not this machine alone, there is no key, and nobody said that this is meant.

    >>> check_host("127.0.0.1", keyed=False, insecure=False)
    >>> check_host("0.0.0.0", keyed=False, insecure=False)
    Traceback (most recent call last):
    progspace.errors.ProgramError: 0.0.0.0 can be reached from other machines: set PROGSPACE_API_KEY, or say --insecure
    """
    if not (keyed or insecure or _is_loopback(host)):
        raise ProgramError(f"{host} can be reached from other machines: set PROGSPACE_API_KEY, or say --insecure")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(app: Starlette, *, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM: calls in flight end, new ones get a 503; a second signal does not wait.

    Args:
        app: Its `progspace.serving.service.Service` is ``app.state.service``.
        host: The address to listen on.
        port: 0 for any that is free; it is logged.
    """
    _Server(uvicorn.Config(app, host=host, port=port, access_log=False, server_header=False)).run()


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 — uvicorn's
        self.force_exit = self._service.draining
        self.should_exit = self._service.draining or not self._service.in_flight
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._service.draining and not self._service.in_flight:
            self.should_exit = True
        return await super().on_tick(counter)

    @property
    def _service(self) -> Any:
        return self.config.app.state.service  # type: ignore[union-attr]
