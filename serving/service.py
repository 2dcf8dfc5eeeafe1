"""What each server here does for a request: it asks for the key, holds it to limits, and lets it end when it stops."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["Limits", "Service"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take.

    Attributes:
        body: Bytes; a longer body is a 413.
        seconds: For the body to come in (408), and again for the answer (504).
        concurrency: Calls that run at a time, in threads also those that were given up; one more is a 429.
    """

    body: int = 2**20
    seconds: float = 60.0
    concurrency: int = 64


class Service:
    """What answers requests; one event loop's.

    Args:
        limits: Of size, time and concurrency.
        key: If given, calls need the header ``Authorization: Bearer KEY``.

    Attributes:
        limits: As given.
        in_flight: Calls that run now.
        left_behind: Threads of calls that were given up, by call, until they end; such calls count for the limits.
        draining: Whether new calls are refused with 503, so that those in flight can end.
    """

    def __init__(self, limits: Limits, key: str | None) -> None:
        self.limits = limits
        self.in_flight, self.draining = 0, False
        self.left_behind: list[Sequence[Future[Any]]] = []
        self._key = None if key is None else f"Bearer {key}".encode()

    def application(
        self, routes: Sequence[Route], tell: Callable[[Request, Exception], Awaitable[Response]]
    ) -> Starlette:
        """Makes an ASGI application of it, whose errors are told by ``tell``; it is its ``state.service``."""
        app = Starlette(routes=routes, exception_handlers={HTTPException: tell, Exception: tell})
        # A redirect would lead to wherever the request's Host says.
        app.router.redirect_slashes = False
        app.state.service = self
        return app

    async def health(self, _: Request) -> Response:
        """Tells that the process lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Tells whether new calls are taken."""
        if self.draining:
            raise HTTPException(503, "stopping", {"Retry-After": "1"})
        if self._still_running() >= self.limits.concurrency:
            raise HTTPException(503, "as many calls as may run were given up and still run", {"Retry-After": "1"})
        return JSONResponse({"status": "ok"})

    def authorise(self, request: Request) -> None:
        """Refuses who has not the key."""
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if self._key is not None and not hmac.compare_digest(given, self._key):
            raise HTTPException(401, "a bearer key is wanted", {"WWW-Authenticate": "Bearer"})

    async def body(self, request: Request) -> bytes:
        """Gives a body of JSON that keeps to the limits."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body is application/json")
        too_large = HTTPException(413, f"the body is longer than {self.limits.body} bytes", {"Connection": "close"})
        told = request.headers.get("content-length", "0")
        if told.isdecimal() and int(told) > self.limits.body:
            raise too_large
        body = bytearray()
        try:
            with anyio.fail_after(self.limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.limits.body:
                        raise too_large
        except TimeoutError:
            raise HTTPException(408, "the body did not come in time", {"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "the body broke off") from None
        return bytes(body)

    @contextmanager
    def turn(self, calls: int = 1) -> Iterator[None]:
        """Takes so many of the calls that may run at a time, or refuses."""
        if self.draining:
            raise HTTPException(503, "stopping", {"Retry-After": "1"})
        running = self.in_flight + self._still_running()
        if running + calls > self.limits.concurrency:
            raise HTTPException(429, f"{running} calls are running already", {"Retry-After": "1"})
        self.in_flight += calls
        try:
            yield
        finally:
            self.in_flight -= calls

    def _still_running(self) -> int:
        self.left_behind = [threads for threads in self.left_behind if not all(each.done() for each in threads)]
        return len(self.left_behind)
