"""A program over HTTP: an ASGI application whose OpenAPI document and validation are made from the program's fields."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import dspy
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import CallTimeout
from ..programs.noting import trace_id
from ..programs.program import acall
from .guard import is_foreseen
from .interface import Interface, faults, interface_of
from .openapi import PROBLEM, document

__all__ = ["TRACE", "Limits", "Service", "application"]

TRACE = "Progspace-Trace"
"""The header of an answer that names the trace of a watched call."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take.

    Attributes:
        body: Bytes; a longer body is a 413.
        seconds: For the body to come in (408), and again for the answer (504).
        concurrency: Calls that run at a time; one more is a 429.
    """

    body: int = 2**20
    seconds: float = 60.0
    concurrency: int = 64


class Service:
    """A program that answers requests; one event loop's.

    Attributes:
        in_flight: Calls that run now.
        draining: Whether new calls are refused with 503, so that those in flight can end.
    """

    def __init__(self, program: dspy.Module, interface: Interface, limits: Limits, key: str | None) -> None:
        self.interface, self.limits = interface, limits
        self.in_flight, self.draining = 0, False
        self._program = program
        self._key = None if key is None else f"Bearer {key}".encode()

    async def predict(self, request: Request) -> Response:
        """Answers one request."""
        self._authorise(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body is application/json")
        inputs = self._inputs(await self._body(request))
        if self.draining:
            raise HTTPException(503, "stopping", {"Retry-After": "1"})
        if self.in_flight >= self.limits.concurrency:
            raise HTTPException(429, f"{self.in_flight} calls are running already", {"Retry-After": "1"})
        self.in_flight += 1
        try:
            text, trace = await self._answer(inputs)
            headers = {} if trace is None else {TRACE: trace}
            return Response(text, headers=headers, media_type="application/json")
        finally:
            self.in_flight -= 1

    async def health(self, _: Request) -> Response:
        """Tells that the process lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Tells whether new calls are taken."""
        if self.draining:
            raise HTTPException(503, "stopping", {"Retry-After": "1"})
        return JSONResponse({"status": "ok"})

    def _authorise(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if self._key is not None and not hmac.compare_digest(given, self._key):
            raise HTTPException(401, "a bearer key is wanted", {"WWW-Authenticate": "Bearer"})

    async def _body(self, request: Request) -> bytes:
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

    def _inputs(self, body: bytes) -> dict[str, Any]:
        try:
            return self.interface.read(body)
        except ValidationError as error:
            raise _Invalid(error) from None
        except ValueError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from None

    async def _answer(self, inputs: dict[str, Any]) -> tuple[bytes, str | None]:
        # Nothing of a call is told or logged but the class of its error: a message may quote prompts.
        try:
            with anyio.fail_after(self.limits.seconds), dspy.context(disable_history=True):
                prediction = await acall(self._program, **inputs)
        except (TimeoutError, CallTimeout):
            raise HTTPException(504, "no answer in time") from None
        except dspy.ContextWindowExceededError:
            raise HTTPException(422, "the inputs are longer than the LM's context") from None
        except Exception as error:
            _log.error("a call failed: %s", type(error).__name__)
            if is_foreseen(error):
                raise HTTPException(502, f"no answer that can be read: {type(error).__name__}") from None
            raise HTTPException(500, "the program failed") from None
        try:
            return self.interface.write(prediction), trace_id(prediction)
        except ValueError:
            raise HTTPException(502, "the answer is not of the declared types") from None


class _Invalid(HTTPException):
    def __init__(self, error: ValidationError) -> None:
        super().__init__(422, f"{error.error_count()} faults in the inputs")
        self.errors = faults(error)


async def _problem(_: Request, error: Exception) -> Response:
    """Writes an error as RFC 9457 has it."""
    status, detail, headers = 500, "the program failed", {}
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, dict(error.headers or {})
    content: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if isinstance(error, _Invalid):
        content["errors"] = error.errors
    return Response(to_json(content), status, headers, PROBLEM)


def application(
    program: dspy.Module,
    *,
    name: str = "program",
    description: str | None = None,
    limits: Limits | None = None,
    key: str | None = None,
) -> Starlette:
    """Makes an ASGI application of a program: ``POST /predict``, ``/health``, ``/ready``, ``/openapi.json``.

    Its `Service` is ``app.state.service``.

    Args:
        program: From ``ps.load``, or any module; its ``acall`` is used, or a thread where it has only a ``forward``.
        name: Title of the OpenAPI document.
        description: What the program does; by default what its author wrote.
        limits: Of size, time and concurrency.
        key: If given, calls and the document need the header ``Authorization: Bearer KEY``.

    Raises:
        ProgramError: The program's fields cannot be told as JSON Schema.

    >>> app = application(dspy.Predict("text -> label"))
    >>> [route.path for route in app.routes]
    ['/predict', '/health', '/ready', '/openapi.json']
    """
    interface = interface_of(program)
    service = Service(program, interface, limits or Limits(), key)
    description = interface.description if description is None else description
    told = to_json(document(interface, name, description, keyed=key is not None))

    async def openapi(request: Request) -> Response:
        service._authorise(request)
        return Response(told, media_type="application/json")

    app = Starlette(
        routes=[
            Route("/predict", service.predict, methods=["POST"]),
            Route("/health", service.health),
            Route("/ready", service.ready),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={HTTPException: _problem, Exception: _problem},
    )
    app.state.service = service
    return app
