"""LMs and embedders over HTTP, as OpenAI's API has them: several processes share one engine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any, Protocol, TypeVar

from dspy.lm15 import ContextLengthError, InvalidRequestError, Request, Response, UnsupportedFeatureError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..lms.embedder import EmbeddedEmbedder
from .openai_answers import (
    ChatChunks,
    CompletionChunks,
    End,
    chat_answer,
    completion_answer,
    embeddings_answer,
    error_body,
)
from .openai_requests import Chat, Completion, Embeddings, Refused, read
from .service import Limits, Service

__all__ = ["Engine", "LMService", "lm_application"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Engine(Protocol):
    """An engine of DSPy's contract, for tasks: `progspace.lms.local.AsyncLocalEngine` is one."""

    @property
    def supported_params(self) -> frozenset[str]:
        """What a request may ask of it."""

    async def complete(self, request: Request) -> Response:
        """Answers a request."""

    def stream(self, request: Request) -> AsyncIterator[Any]:
        """Gives an answer's events as they come."""


class LMService(Service):
    """Engines and embedders that answer requests; each answer of a request counts as a call."""

    def __init__(
        self, engines: Mapping[str, Engine], embedders: Mapping[str, EmbeddedEmbedder], limits: Limits, key: str | None
    ) -> None:
        super().__init__(limits, key)
        self._engines, self._embedders = engines, embedders
        self._began = int(time.time())

    async def models(self, request: HttpRequest) -> HttpResponse:
        """Lists what is served; of LMs also which parameters they take, for `progspace.lms.remote`."""
        self.authorise(request)
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._names]})

    async def model(self, request: HttpRequest) -> HttpResponse:
        """Tells of one that is served."""
        self.authorise(request)
        return JSONResponse(self._model(_found({name: name for name in self._names}, request.path_params["model"])))

    async def chat(self, request: HttpRequest) -> HttpResponse:
        """Answers a chat."""
        return await self._generated(request, Chat, chat_answer, ChatChunks)

    async def completions(self, request: HttpRequest) -> HttpResponse:
        """Goes on with texts."""
        return await self._generated(request, Completion, completion_answer, CompletionChunks)

    async def _generated(
        self,
        request: HttpRequest,
        kind: type[Chat | Completion],
        written: Callable[..., Any],
        chunks: Callable[..., Any],
    ) -> HttpResponse:
        self.authorise(request)
        asked = read(kind, await self.body(request))
        engine, requests = _found(self._engines, asked.model), asked.requests()
        if len(requests) > self.limits.concurrency:
            raise Refused(400, f"more than {self.limits.concurrency} answers are not given to a request", param="n")
        with ExitStack() as turn, _told(asked.subject):
            turn.enter_context(self.turn(len(requests)))
            if not asked.stream:
                answers = await _while_there(request, self._answers(engine, requests))
                return JSONResponse(written(asked, answers))
            pieces = _merged(engine, requests, self.limits.seconds)
            first = await _while_there(request, anext(pieces))  # what is refused is refused by a status
            return _Stream(_events(first, pieces, chunks(asked), len(requests)), turn.pop_all())

    async def embeddings(self, request: HttpRequest) -> HttpResponse:
        """Makes vectors of texts."""
        self.authorise(request)
        asked = read(Embeddings, await self.body(request))
        embedder = _found(self._embedders, asked.model)
        with self.turn():
            counts = await asyncio.to_thread(embedder.count, asked.texts)
            if (longest := max(counts)) > embedder.max_tokens:
                told = f"{asked.model} reads {embedder.max_tokens} tokens, and a text has {longest}"
                raise Refused(400, told, code="context_length_exceeded", param="input")
            with _told("input"):
                vectors = await asyncio.wait_for(asyncio.to_thread(embedder.embed, asked.texts), self.limits.seconds)
        if asked.dimensions not in (None, vectors.shape[1]):
            raise Refused(400, f"vectors of {asked.model} have {vectors.shape[1]} dimensions", param="dimensions")
        return JSONResponse(embeddings_answer(asked, vectors, sum(counts)))

    @property
    def _names(self) -> list[str]:
        return [*self._engines, *self._embedders]

    def _model(self, name: str) -> dict[str, Any]:
        told = {"id": name, "object": "model", "created": self._began, "owned_by": "progspace"}
        if name in self._engines:
            told["progspace"] = {"parameters": sorted(self._engines[name].supported_params)}
        return told

    async def _answers(self, engine: Engine, requests: Sequence[Request]) -> list[tuple[str, End]]:
        tasks = [asyncio.ensure_future(engine.complete(request)) for request in requests]
        try:
            responses: list[Response] = await asyncio.wait_for(asyncio.gather(*tasks), self.limits.seconds)
        finally:
            for task in tasks:
                task.cancel()
        return [(each.text or "", End(each.finish_reason, each.usage, each.logprobs or ())) for each in responses]


async def _while_there(request: HttpRequest, answers: Awaitable[_T]) -> _T:
    """Waits for answers; gives them up where the client does not wait any more."""
    answering, leaving = asyncio.ensure_future(answers), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():  # the body was read: what comes after it is that the client has left
            raise Refused(499, "the client has left")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


class _Stream(StreamingResponse):
    """A stream that ends its turn also where nobody has read it."""

    def __init__(self, content: AsyncIterator[bytes], turn: ExitStack) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._turn:
            await super().__call__(scope, receive, send)


async def _events(
    first: tuple[int, str | End],
    pieces: AsyncIterator[tuple[int, str | End]],
    chunks: ChatChunks | CompletionChunks,
    answers: int,
) -> AsyncIterator[bytes]:
    """Writes a stream of server-sent events."""

    def event(told: Any) -> bytes:
        return b"data: " + to_json(told) + b"\n\n"

    ends: dict[int, End] = {}

    def told(index: int, piece: str | End) -> bytes:
        if isinstance(piece, str):
            return event(chunks.piece(index, piece))
        ends[index] = piece
        return event(chunks.end(index, piece))

    async with aclosing(pieces):  # type: ignore[type-var]  # it is a generator
        for index in range(answers):
            for chunk in chunks.first(index):
                yield event(chunk)
        yield told(*first)
        try:
            async for index, piece in pieces:
                yield told(index, piece)
        except Exception as error:
            yield event(error_body(_refusal(error, "messages")))
            return
    for chunk in chunks.last([ends[index] for index in range(answers)]):
        yield event(chunk)
    yield b"data: [DONE]\n\n"


async def _merged(engine: Engine, requests: Sequence[Request], seconds: float) -> AsyncIterator[tuple[int, str | End]]:
    """Gives pieces of several answers as they come, each with its answer's number, and the end of each."""
    news: asyncio.Queue[tuple[int, str | End | Exception]] = asyncio.Queue()

    async def pump(index: int, request: Request) -> None:
        logprobs: list[Any] = []
        try:
            async for event in engine.stream(request):
                if event.type == "delta":
                    logprobs += event.delta.logprobs
                    news.put_nowait((index, event.delta.text))
                elif event.type == "end":
                    news.put_nowait((index, End(event.finish_reason, event.usage, tuple(logprobs))))
        except Exception as error:
            news.put_nowait((index, error))

    tasks = [asyncio.ensure_future(pump(index, request)) for index, request in enumerate(requests)]
    until, running = time.monotonic() + seconds, len(tasks)
    try:
        while running:
            index, piece = await asyncio.wait_for(news.get(), max(0.0, until - time.monotonic()))
            if isinstance(piece, Exception):
                raise piece
            running -= isinstance(piece, End)
            yield index, piece
    finally:
        for task in tasks:
            task.cancel()


def _found(served: Mapping[str, _T], model: str) -> _T:
    if model not in served:
        raise Refused(404, f"The model `{model[:100]}` does not exist", code="model_not_found", param="model")
    return served[model]


@contextmanager
def _told(subject: str) -> Iterator[None]:
    """Tells an engine's failure as a status; ``subject`` is the field that is wrong where no other one is."""
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:
        raise _refusal(error, subject) from None


def _refusal(error: Exception, subject: str) -> HTTPException:
    """Of what is no fault of the request, only the kind is logged: a message may quote prompts."""
    if isinstance(error, ContextLengthError):
        return Refused(400, error.message, code="context_length_exceeded", param=subject)
    if isinstance(error, UnsupportedFeatureError):
        param = error.feature if error.feature in Chat.model_fields else subject
        return Refused(400, error.message, code="unsupported_value", param=param)
    if isinstance(error, InvalidRequestError):
        return Refused(400, error.message, code="invalid_value")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Refused(504, "no answer in time")
    _log.error("a call failed: %s", type(error).__name__)
    if isinstance(error, MemoryError):
        return HTTPException(503, "the engine has no room for it now", {"Retry-After": "1"})
    return Refused(500, "the LM failed")


async def _error(_: HttpRequest, error: Exception) -> HttpResponse:
    told = error if isinstance(error, HTTPException) else Refused(500, "the server failed")
    return JSONResponse(error_body(told), told.status_code, dict(told.headers or {}))


def lm_application(
    engines: Mapping[str, Engine],
    embedders: Mapping[str, EmbeddedEmbedder] | None = None,
    *,
    limits: Limits | None = None,
    key: str | None = None,
) -> Starlette:
    """Makes an ASGI application: ``/v1/chat/completions``, ``/v1/completions``, ``/v1/embeddings``, ``/v1/models``.

    Its `LMService` is ``app.state.service``.

    Args:
        engines: LMs, by the names under which they are asked.
        embedders: By the names under which they are asked.
        limits: Of size, time and concurrency.
        key: If given, calls need the header ``Authorization: Bearer KEY``.

    >>> [route.path for route in lm_application({}).routes][:2]
    ['/v1/chat/completions', '/v1/completions']
    """
    service = LMService(engines, embedders or {}, limits or Limits(), key)
    post: Callable[[str, Any], Route] = lambda path, answer: Route(path, answer, methods=["POST"])  # noqa: E731
    routes = [
        post("/v1/chat/completions", service.chat),
        post("/v1/completions", service.completions),
        post("/v1/embeddings", service.embeddings),
        Route("/v1/models", service.models),
        Route("/v1/models/{model:path}", service.model),
        Route("/health", service.health),
        Route("/ready", service.ready),
    ]
    return service.application(routes, _error)
