"""A program over HTTP: an ASGI application whose OpenAPI document and validation are made from the program's fields."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import anyio
import dspy
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import CallTimeout
from ..programs.noting import trace_id
from ..programs.program import acall
from ..programs.threads import threads_started
from .guard import is_foreseen
from .interface import Interface, faults, interface_of
from .openapi import PROBLEM, document
from .service import Limits, Service

__all__ = ["TRACE", "Limits", "ProgramService", "application"]

TRACE = "Progspace-Trace"
"""The header of an answer that names the trace of a watched call."""

_log = logging.getLogger(__name__)


class ProgramService(Service):
    """A program that answers requests."""

    def __init__(self, program: dspy.Module, interface: Interface, limits: Limits, key: str | None) -> None:
        super().__init__(limits, key)
        self.interface = interface
        self._program = program

    async def predict(self, request: Request) -> Response:
        """Answers one request."""
        self.authorise(request)
        inputs = self._inputs(await self.body(request))
        with self.turn(), threads_started() as threads:
            try:
                text, trace = await self._answer(inputs)
            finally:
                self.left_behind.append(threads)
            headers = {} if trace is None else {TRACE: trace}
            return Response(text, headers=headers, media_type="application/json")

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
            # Not fail_after: its TimeoutError cannot be told from one of the program's own.
            with anyio.move_on_after(self.limits.seconds) as limit, dspy.context(disable_history=True):
                prediction = await acall(self._program, **inputs)
            if limit.cancelled_caught:
                raise CallTimeout("no answer in time")
        except CallTimeout:
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

    Its `ProgramService` is ``app.state.service``.

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
    service = ProgramService(program, interface, limits or Limits(), key)
    description = interface.description if description is None else description
    told = to_json(document(interface, name, description, keyed=key is not None))

    async def openapi(request: Request) -> Response:
        service.authorise(request)
        return Response(told, media_type="application/json")

    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/health", service.health),
        Route("/ready", service.ready),
        Route("/openapi.json", openapi),
    ]
    return service.application(routes, _problem)
