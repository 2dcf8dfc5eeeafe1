"""An OpenAI-compatible endpoint as an engine of DSPy's engine contract: as fast as it grants, and asked again."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dspy.lm15 import NotConfiguredError, Request, Response

from .connection import Connection, told_params
from .faults import Fault, fault_of
from .identity import without_secrets
from .limiter import START, Ledger, Limiter
from .prices import Price
from .stopping import pause, stopped
from .waves import wave_of
from .wire import answers_of, body_of, events_of, tokens_about

if TYPE_CHECKING:
    import openai

__all__ = ["AsyncRemoteEngine", "RemoteEngine", "candidates"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_TOLD_FROM, _TOLD_EVERY = 5.0, 30.0  # seconds: of pauses of a request, and between two lines of all
_KEYS_A_REQUEST = 3
_PARAMS = frozenset(
    {
        "temperature", "max_tokens", "max_completion_tokens", "top_p", "stop", "seed", "n", "logprobs",
        "top_logprobs", "frequency_penalty", "presence_penalty", "response_format", "tools", "tool_choice",
        "parallel_tool_calls", "reasoning_effort",
    }
)  # fmt: skip


@dataclass(slots=True)
class _Candidates:
    """The answers that one call of an LM still wants, and those that came along with the first."""

    wanted: int
    got: int = 0
    answers: list[Response] = field(default_factory=list)


_CANDIDATES: ContextVar[_Candidates | None] = ContextVar("progspace_candidates", default=None)


@contextmanager
def candidates(n: int) -> Iterator[None]:
    """Tells the engine how many answers the call wants that is made under it.

    DSPy asks an engine for them one by one; so they are bought in one request, whose prompt is paid for once.
    """
    token = _CANDIDATES.set(_Candidates(n) if n > 1 else None)
    try:
        yield
    finally:
        _CANDIDATES.reset(token)


class _Live:
    """What of an engine is of one process: an event loop in a thread, the client, the limiter."""

    def __init__(self, connection: Connection, most: int) -> None:
        self.process = os.getpid()
        self.client = connection.async_client()
        self.limiter = Limiter(most)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="progspace-endpoint", daemon=True).start()
        weakref.finalize(self, _end, self.process, self._loop, self.client)

    def run(self, task: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(task, self._loop)


def _end(process: int, loop: asyncio.AbstractEventLoop, client: openai.AsyncOpenAI) -> None:
    """Closes connections where they live; else the client would do it in whatever loop collects it."""
    if process == os.getpid():
        closed = asyncio.run_coroutine_threadsafe(client.close(), loop)
        closed.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))


class RemoteEngine:
    """Answers requests by an OpenAI-compatible endpoint; threads and tasks of a process share its limits.

    What may go through later (429, 5xx, a connection lost, an answer that is none) is asked again, after the pause that
    ``Retry-After`` names, otherwise after pauses that double; a refused key is asked for anew.

    Args:
        connection: Where.
        concurrency: Never more requests under way than this; how many, `progspace.lms.limiter.Limiter` learns.
        num_retries: How often a request that failed is sent again; after a 429 it is, while ``patience`` lasts.
        patience: How long, in seconds of pauses, one request is asked again before it is given up; or of all that it
            waits for, where the endpoint answers no other meanwhile. It is for 429.
        hedge: After so many times the usual seconds a second, identical request is sent, and the first answer taken;
            both may be billed. None for never.
        extra_body: Parameters of a request that only this endpoint knows.
        price: What its tokens cost; None for the list that DSPy brings along.
    """

    supports_response_schema = True
    supports_function_calling = True
    supports_reasoning = False

    def __init__(
        self,
        connection: Connection,
        *,
        concurrency: int = 256,
        num_retries: int = 6,
        patience: float = 900.0,
        hedge: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        price: Price | None = None,
    ) -> None:
        if concurrency < 1 or num_retries < 0 or (hedge is not None and hedge < 1):
            raise ValueError(
                f"concurrency={concurrency}, num_retries={num_retries}, hedge={hedge}: concurrency must be at least 1, "
                "num_retries at least 0, and hedge None or at least 1 (times the usual seconds)"
            )
        self.connection, self.extra_body, self.price = connection, dict(extra_body or {}), price
        self._most, self._retries, self._patience, self._hedge = concurrency, num_retries, patience, hedge
        host = urlsplit(connection.base_url).hostname or ""
        self._openai_own = host == "api.openai.com" or host.endswith(".azure.com")
        self._held: _Live | None = None
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()
        self._told_at = self._answered_at = -math.inf

    def __repr__(self) -> str:
        return f"RemoteEngine({self.connection!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> RemoteEngine:
        return self  # a copy of a program shares the endpoint's limits

    def __copy__(self) -> RemoteEngine:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # As DSPy saves whole programs; where it is read, the key is that of the environment.
        where, how = self.settings()
        return _made_anew, (where, {**how, "extra_body": without_secrets(self.extra_body)})

    @cached_property
    def supported_params(self) -> frozenset[str]:
        """What a request may ask for; an endpoint that is a ``progspace lm serve`` tells what it takes besides."""
        return _PARAMS if self._openai_own else _PARAMS | told_params(self.connection)

    @property
    def concurrency(self) -> int:
        """How many requests it takes well at a time, as far as is known by now."""
        return self._held.limiter.limit if self._held is not None else min(START, self._most)

    def complete(self, request: Request) -> Response:
        """Answers a request; the calling thread waits."""
        held = _CANDIDATES.get()
        if held is not None and held.answers:
            return held.answers.pop(0)
        if (known := self._of_wave(request, held)) is not None:
            return _first(known, held)
        future = self._asked(request, held)
        try:
            return _first(future.result(), held)
        finally:
            future.cancel()  # where the thread was interrupted

    def stream(self, request: Request) -> Iterator[Any]:
        """Gives an answer's events as they come."""
        news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        future = self._live().run(self._feed(request, news.put))
        try:
            while (event := news.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            future.cancel()

    def close(self) -> None:
        """Does nothing: the connection ends with the engine."""

    def identity(self) -> dict[str, Any]:
        """What its answers depend on; without the key."""
        known = {"api_version": self.connection.api_version, "extra_body": without_secrets(self.extra_body)}
        return {"base_url": self.connection.base_url, **{name: value for name, value in known.items() if value}}

    dump_state = identity

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> RemoteEngine:
        """The inverse of `dump_state`; the key comes from the environment."""
        connection = Connection(state["base_url"], api_version=state.get("api_version"))
        return cls(connection, extra_body=state.get("extra_body"))

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """With what another process makes its like: of the connection, without the key, and of the engine."""
        where, how = self.connection, {"concurrency": self._most, "num_retries": self._retries}
        return (
            {"base_url": where.base_url, "api_version": where.api_version, "timeout": where.timeout},
            {
                **how, "patience": self._patience, "hedge": self._hedge, "extra_body": self.extra_body,
                "price": self.price,
            },
        )  # fmt: skip

    def share(self, ledger: Ledger) -> None:
        """Keeps its limits from now on where other processes keep theirs as well."""
        if ledger != self._ledger:
            self._ledger = ledger

    @property
    def ledger(self) -> Ledger | None:
        """Where other processes keep its limits as well."""
        return self._ledger

    def _live(self) -> _Live:
        with self._lock:
            if self._held is None or self._held.process != os.getpid():  # threads do not live on after a fork
                self._held = _Live(self.connection, self._most)
            if self._ledger is not None:
                self._held.limiter.ledger = self._ledger
            return self._held

    def _body(self, request: Request, held: _Candidates | None) -> dict[str, Any]:
        n, first = (held.wanted - held.got, held.got) if held else (1, 0)
        return body_of(request, n=n, first=first, extra=self.extra_body, openai_own=self._openai_own)

    def _of_wave(self, request: Request, held: _Candidates | None) -> list[Response] | None:
        """Gives the answers from a wave; None where none is being collected."""
        if (wave := wave_of(self)) is None:
            return None
        first = held.got if held else 0
        return wave.answer(self._body(request, held), first, lambda content: answers_of(content, request))

    def _asked(self, request: Request, held: _Candidates | None) -> Future[list[Response]]:
        body = self._body(request, held)
        live = self._live()
        return live.run(self._until_answered(lambda: self._hedged(live, body, request)))

    async def _until_answered(self, attempt: Callable[[], Awaitable[tuple[_T | None, Fault | None]]]) -> _T:
        """Makes attempts while one may help; what is raised carries neither the request nor the key."""
        keys, where = self.connection.keys, self.connection.base_url
        failures, renewals, paused, next_pause = 0, 0, 0.0, _FIRST_PAUSE
        began = math.inf
        while True:
            key = await asyncio.to_thread(keys.current)
            if not key:
                raise NotConfiguredError(keys.missing)
            answer, fault = await attempt()
            if fault is None:
                return answer  # type: ignore[return-value]  # there is one where there is no fault
            if fault.key_refused and renewals < _KEYS_A_REQUEST and await asyncio.to_thread(keys.renew, key):
                renewals += 1
                continue
            failures += fault.status != 429
            pausing = next_pause if fault.pause is None else fault.pause
            began = min(began, now := time.monotonic())
            # In the line one may wait far longer than in pauses: each refusal slows it down.
            waited = max(paused, now - max(began, self._answered_at)) if fault.status == 429 else paused
            hopeless = not fault.retryable or failures > self._retries or waited + pausing > self._patience
            if not hopeless:
                self._tell(fault, pausing, now - began)
                await pause(pausing)
                paused, next_pause = paused + pausing, min(2 * next_pause, _LONGEST_PAUSE)
            if hopeless or stopped():
                tried = f"; asked {failures} times" if failures > 1 else ""
                tried += f"; waited {round(waited, 1):g} s" if paused and fault.retryable else ""
                raise fault.kind(f"{where}: {fault.message}{tried}", status=fault.status, retry_after=fault.pause)

    def _tell(self, fault: Fault, pausing: float, waited: float) -> None:
        """Says what is waited for, now and then: else it looks as if nothing went on."""
        now = time.monotonic()
        if waited + pausing < _TOLD_FROM or now - self._told_at < _TOLD_EVERY:
            return
        self._told_at = now
        most = f"about {self._patience:g} s" if fault.status == 429 else f"{self._retries + 1} attempts"
        _log.warning(
            "%s: %s; it is asked again after a pause of %g s, and given up after %s",
            self.connection.base_url, fault.message, pausing, most,
        )  # fmt: skip

    async def _hedged(self, live: _Live, body: dict[str, Any], request: Request) -> tuple[Any, Fault | None]:
        """Makes an attempt, and a second one beside it where the first takes long."""
        sent = asyncio.Event()
        first = asyncio.ensure_future(self._once(live, body, request, sent))
        attempts = [first]
        try:
            if self._hedge is not None and (usual := live.limiter.usual_seconds) is not None:
                await asyncio.wait([first, begun := asyncio.ensure_future(sent.wait())], return_when="FIRST_COMPLETED")
                begun.cancel()
                if not (await asyncio.wait([first], timeout=self._hedge * usual))[0]:
                    attempts.append(asyncio.ensure_future(self._once(live, body, request, asyncio.Event())))
            for ended in asyncio.as_completed(attempts):
                answers, fault = await ended
                if fault is None:
                    break
            return answers, fault
        finally:
            for each in attempts:
                each.cancel()

    async def _once(
        self, live: _Live, body: dict[str, Any], request: Request, sent: asyncio.Event
    ) -> tuple[list[Response] | None, Fault | None]:
        async def read() -> tuple[list[Response], Any, float]:
            create = live.client.chat.completions.with_raw_response.create
            raw = await asyncio.wait_for(create(**_arguments(body)), self.connection.timeout)
            answers = answers_of(raw.http_response.content, request)
            usage = answers[0].usage
            return answers, raw.headers, float((usage.input_tokens or 0) + (usage.output_tokens or 0))

        return await self._sent(live, body, read, sent)

    async def _sent(
        self,
        live: _Live,
        body: dict[str, Any],
        read: Callable[[], Awaitable[tuple[_T, Any, float | None]]],
        sent: asyncio.Event,
    ) -> tuple[_T | None, Fault | None]:
        import openai

        answer, headers, tokens, fault = None, None, None, None
        turn = await live.limiter.enter(tokens_about(body))
        sent.set()
        try:
            answer, headers, tokens = await read()
        except (openai.APIError, asyncio.TimeoutError, ValueError) as error:
            fault = fault_of(error, self.connection.keys)
        except BaseException:
            live.limiter.give_up()
            raise
        if fault is None:
            self._answered_at = time.monotonic()
        live.limiter.leave(turn, fault.headers if fault else headers, fault, tokens)
        return answer, fault

    async def _feed(self, request: Request, put: Callable[[Any], None]) -> None:
        """Puts a stream's events, then None; or the error that ended it."""
        live, begun = self._live(), False
        body = body_of(request, extra=self.extra_body, openai_own=self._openai_own)
        body |= {"stream": True, "stream_options": {"include_usage": True}}

        async def read() -> tuple[bool, Any, float | None]:
            nonlocal begun
            stream = await live.client.chat.completions.create(**_arguments(body))
            async for event in events_of(stream, request):
                begun = True
                put(event)
            return True, stream.response.headers, None

        async def attempt() -> tuple[bool | None, Fault | None]:
            answer, fault = await self._sent(live, body, read, asyncio.Event())
            # What was shown cannot be taken back.
            return answer, replace(fault, retryable=False) if fault is not None and begun else fault

        try:
            await self._until_answered(attempt)
        except BaseException as error:
            put(error)
            raise
        put(None)


class AsyncRemoteEngine:
    """`RemoteEngine` for tasks: waits without holding a thread."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        """Answers a request."""
        held = _CANDIDATES.get()
        if held is not None and held.answers:
            return held.answers.pop(0)
        if (known := self._engine._of_wave(request, held)) is not None:
            return _first(known, held)
        return _first(await asyncio.wrap_future(self._engine._asked(request, held)), held)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Gives an answer's events as they come."""
        loop, news = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def put(event: Any) -> None:
            loop.call_soon_threadsafe(news.put_nowait, event)

        feed = self._engine._feed(request, put)
        future = self._engine._live().run(feed)
        try:
            while (event := await news.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            future.cancel()

    async def aclose(self) -> None:
        """Does nothing, as `RemoteEngine.close`."""

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncRemoteEngine:
        return self

    def dump_state(self) -> dict[str, Any]:
        """As the engine itself."""
        return self._engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncRemoteEngine:
        """The inverse of `dump_state`."""
        return cls(RemoteEngine.load_state(state))


def _made_anew(where: dict[str, Any], how: dict[str, Any]) -> RemoteEngine:
    return RemoteEngine(Connection(**where), **how)


def _first(answers: list[Response], held: _Candidates | None) -> Response:
    if held is not None:
        answers = answers[: held.wanted - held.got]  # an endpoint may give more than were asked for
        held.got += len(answers)
        held.answers += answers[1:]
    return answers[0]


def _arguments(body: dict[str, Any]) -> dict[str, Any]:
    """What the client is called with: it checks names, and endpoints know more of them than it."""
    known = ("model", "messages", "stream")
    rest = {name: value for name, value in body.items() if name not in known}
    return {**{name: body[name] for name in known if name in body}, "extra_body": rest}
