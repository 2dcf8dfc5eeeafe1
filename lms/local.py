"""The embedded LM as DSPy knows an LM: ``dspy.LM`` over an engine of DSPy's own engine contract."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import dspy
from dspy.lm15 import (
    ContextLengthError,
    InvalidRequestError,
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TextPart,
    TokenLogprob,
    TopLogprob,
    UnsupportedFeatureError,
    Usage,
)

from .adapters import Adapter, read_adapter
from .embedded import EmbeddedEngine, Precision, engine_for
from .generation import MAX_SEQUENCES, Generation, GenerationOptions
from .models import DEFAULT_MODEL, MODELS, locate
from .prices import Price

__all__ = ["LocalEngine", "local_lm"]

DEFAULT_MAX_TOKENS = 256


def local_lm(
    model: str = DEFAULT_MODEL,
    *,
    precision: Precision = "f32",
    adapter: Adapter | str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dspy.LM:
    """Makes a ``dspy.LM`` that answers in this process.

    Args:
        model: A name of the registry, a GGUF file, or an OpenVINO folder.
        precision: Of generation: ``f32``, or ``bf16`` for speed at the cost of answers that may vary with the batch.
        adapter: What was trained on this model: `progspace.lms.adapters.Adapter`, or the path of its file.
        settings: Of ``dspy.LM``: temperature, max_tokens, …

    Raises:
        ModelNotFound: The model is not on this machine; the message holds the command that mends it.
        LMError: The adapter is missing, altered, or of another model.

    >>> lm = local_lm(max_tokens=16)
    >>> lm("What is the capital of France?")
    ['The capital of France is Paris.']
    """
    engine = LocalEngine(model, precision=precision, adapter=adapter)
    settings.setdefault("cache", False)
    settings.setdefault("num_retries", 0)  # what fails here fails again
    name = model if model in MODELS else str(locate(model)[0])
    if "provider" not in settings:
        from .training.local_provider import local_provider

        settings["provider"] = local_provider(model, f"local/{name}", precision=precision)
    if engine.adapter is not None:
        name += f"+{engine.adapter.sha256[:12]}"
    return dspy.LM(f"local/{name}", engine=engine, async_engine=AsyncLocalEngine(engine), **settings)


class LocalEngine:
    """One attempt at one `dspy.lm15.Request` by the embedded LM.

    Besides the request's own settings it knows, in ``config.extensions``: ``structured_outputs`` with ``choice`` (the
    answer is one of these texts) or ``regex`` — the names that vLLM's server gives them — and ``apply_chat_template``
    (False: the messages are joined as they are, for completion-like prompts). With ``choice`` and ``logprobs``, the
    answer is the likeliest choice, and its ``top`` holds the log-probability of each: of the whole text, summed over
    its tokens.
    """

    concurrency = MAX_SEQUENCES
    price = Price(0.0, 0.0)
    supports_response_schema = True
    supports_function_calling = False
    supports_reasoning = False
    supported_params = frozenset(
        {
            "temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "logprobs", "response_format",
            "structured_outputs", "choice_logprobs", "apply_chat_template",
        }
    )  # fmt: skip

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        precision: Precision = "f32",
        adapter: Adapter | str | os.PathLike[str] | None = None,
    ) -> None:
        self.model, self.precision = model, precision
        self.adapter = adapter if adapter is None or isinstance(adapter, Adapter) else read_adapter(adapter)
        self.engine: EmbeddedEngine = engine_for(model, precision, self.adapter)
        self._sampled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def complete(self, request: Request) -> Response:
        """Answers a request; the calling thread waits."""
        return self._submit(request).result()

    def stream(self, request: Request) -> Iterator[Any]:
        """Gives an answer's events as they come; who stops listening gives the answer up."""
        news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        pending = self._submit(request, news.put)
        pending.future.add_done_callback(lambda _: news.put(None))
        try:
            yield StreamStartEvent(model=request.model)
            while (text := news.get()) is not None:
                yield StreamDeltaEvent(TextDelta(text))
            yield from _last_events(pending.result())
        finally:
            pending.future.cancel()

    def close(self) -> None:
        """Does nothing: the engine is the process's, and no thread of it outlives its work."""

    def dump_state(self) -> dict[str, Any]:
        """What DSPy needs to save a program that holds this LM."""
        state: dict[str, Any] = {"model": self.model, "precision": self.precision}
        if self.adapter is not None:
            state["adapter"] = {"path": str(self.adapter.path), "sha256": self.adapter.sha256}
        return state

    def identity(self) -> dict[str, Any]:
        """What its answers depend on: of an adapter its content, wherever it lies."""
        state = self.dump_state()
        if self.adapter is not None:
            state["adapter"] = self.adapter.sha256
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> LocalEngine:
        # A copy of a program shares the process's engine.
        return self

    def __copy__(self) -> LocalEngine:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalEngine.load_state, (self.dump_state(),)

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> LocalEngine:
        """The inverse of `dump_state`."""
        held = state.get("adapter")
        adapter = read_adapter(held["path"], held["sha256"]) if held else None
        return cls(state["model"], precision=state["precision"], adapter=adapter)

    def _submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> _Pending:
        extensions = dict(request.config.extensions or {})
        structured = dict(extensions.pop("structured_outputs", None) or {})
        templated = extensions.pop("apply_chat_template", True)
        if extensions or request.tools:
            unknown = "tools" if request.tools else ", ".join(sorted(extensions))
            raise UnsupportedFeatureError(f"the embedded LM knows no {unknown}", feature=unknown)
        head, last = _texts(request)
        if templated:
            whole = self.engine.render([*head, last])
            constant = whole[: whole.rfind(last["content"])] if last["content"] else ""
        else:
            constant = "".join(message["content"] for message in head)
            whole = constant + last["content"]
        prompt = self.engine.encode(whole)
        if not prompt:
            raise InvalidRequestError("the prompt is empty")
        choices = tuple(structured.get("choice") or ())
        if choices and request.config.logprobs is not None:
            return self._score(request, prompt, self.engine.encode(constant) if constant else [], choices)
        return self._generate(request, prompt, choices, structured.get("regex"), on_text)

    def _generate(
        self,
        request: Request,
        prompt: list[int],
        choices: tuple[str, ...],
        regex: str | None,
        on_text: Callable[[str], None] | None,
    ) -> _Pending:
        config = request.config
        room = self.engine.context_length - len(prompt)
        self._check_room(len(prompt), room)
        if config.logprobs is not None:
            raise UnsupportedFeatureError("the embedded LM gives log-probabilities of choices only", feature="logprobs")
        response_format = config.response_format or {}
        schema = {"type": "object"} if response_format.get("type") == "json_object" else response_format.get("schema")
        temperature = config.temperature or 0.0
        options = GenerationOptions(
            max_tokens=min(config.max_tokens or DEFAULT_MAX_TOKENS, room),
            temperature=temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            seed=(self._next_seed(prompt) if config.seed is None else config.seed) if temperature else 0,
            stop=config.stop,
            choices=choices,
            regex=regex,
            json_schema=schema,
        )
        future = self.engine.generate(prompt, options, on_text)
        return _Pending(future, lambda generation: _generated(request, len(prompt), generation))

    def _score(self, request: Request, prompt: list[int], constant: list[int], choices: tuple[str, ...]) -> _Pending:
        shared = _common(prompt, constant)
        prefix, tail = prompt[:shared], prompt[shared:]
        continuations = [self.engine.encode(choice) for choice in choices]
        if _ambiguous(continuations):
            end = self.engine.encode("\n")
            continuations = [[*continuation, *end] for continuation in continuations]
        longest = max(map(len, continuations))
        self._check_room(len(prompt), self.engine.context_length - len(prompt) - longest + 1)
        future = self.engine.score(prefix, tail, continuations)
        return _Pending(future, lambda scores: _scored(request, len(prompt), choices, continuations, scores))

    def _check_room(self, tokens: int, room: int) -> None:
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {tokens:,} tokens, and {self.model} holds "
                f"{self.engine.context_length:,} with the answer"
            )

    def _next_seed(self, prompt: list[int]) -> int:
        """Gives the k-th sampling of one prompt the k-th seed of that prompt, in whatever order prompts come."""
        key = hashlib.sha256(json.dumps(prompt).encode()).hexdigest()
        with self._lock:
            count = self._sampled[key]
            self._sampled[key] += 1
        return int(hashlib.sha256(f"{key}:{count}".encode()).hexdigest()[:8], 16)


class AsyncLocalEngine:
    """`LocalEngine` for tasks: waits without holding a thread."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    @property
    def supported_params(self) -> frozenset[str]:
        """Those of `LocalEngine`."""
        return self._engine.supported_params

    async def complete(self, request: Request) -> Response:
        """Answers a request; who stops waiting gives the answer up."""
        pending = await self._submitted(request)
        return pending.response(await asyncio.wrap_future(pending.future))

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Gives an answer's events as they come; who stops listening gives the answer up."""
        loop, news = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(text: str | None) -> None:
            loop.call_soon_threadsafe(news.put_nowait, text)

        pending = await self._submitted(request, put)
        pending.future.add_done_callback(lambda _: put(None))
        try:
            yield StreamStartEvent(model=request.model)
            while (text := await news.get()) is not None:
                yield StreamDeltaEvent(TextDelta(text))
            for event in _last_events(pending.result()):
                yield event
        finally:
            pending.future.cancel()

    async def _submitted(self, request: Request, on_text: Callable[[str], None] | None = None) -> _Pending:
        """Submits in a thread, since the first call loads the model; who does not wait for that gives the answer up."""
        made, left = list[_Pending](), threading.Event()

        def submit() -> _Pending:
            pending = self._engine._submit(request, on_text)
            made.append(pending)
            if left.is_set():
                pending.future.cancel()
            return pending

        try:
            return await asyncio.to_thread(submit)
        except asyncio.CancelledError:
            left.set()
            for pending in made:
                pending.future.cancel()
            raise

    async def aclose(self) -> None:
        """Does nothing, as `LocalEngine.close`."""

    def dump_state(self) -> dict[str, Any]:
        """What DSPy needs to save a program that holds this LM."""
        return self._engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncLocalEngine:
        """The inverse of `dump_state`."""
        return cls(LocalEngine.load_state(state))


class _Pending:
    """An answer under way, and how to tell it as a response."""

    def __init__(self, future: Future[Any], response: Any) -> None:
        self.future, self.response = future, response

    def result(self) -> Response:
        response: Response = self.response(self.future.result())
        return response


def _last_events(response: Response) -> Iterator[Any]:
    """Ends a stream; a scored answer comes whole, with its log-probabilities."""
    if response.logprobs:
        yield StreamDeltaEvent(TextDelta(response.message.text or "", logprobs=response.logprobs))
    yield StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)


def _texts(request: Request) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Gives the messages before the last one, the system's first, and the last one."""
    messages = [{"role": message.role, "content": _text(message.parts)} for message in request.messages]
    if isinstance(request.system, str):
        messages.insert(0, {"role": "system", "content": request.system})
    elif request.system:
        messages.insert(0, {"role": "system", "content": _text(request.system)})
    return messages[:-1], messages[-1]


def _text(parts: Sequence[Any]) -> str:
    for part in parts:
        if not isinstance(part, TextPart):
            raise UnsupportedFeatureError(f"the embedded LM reads text only, not {part.type}", feature=part.type)
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _common(one: list[int], other: list[int]) -> int:
    """Length of the common beginning, at least one token short of the first list: a tail is never empty."""
    shared = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return min(shared, len(one) - 1)


def _ambiguous(continuations: list[list[int]]) -> bool:
    """Tells whether one choice begins as another one goes on, so that only an end tells them apart."""
    ordered = sorted(continuations)
    return any(longer[: len(shorter)] == shorter for shorter, longer in pairwise(ordered))


def _generated(request: Request, prompt_tokens: int, generation: Generation) -> Response:
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant(generation.text),
        finish_reason="length" if generation.finish_reason == "length" else "stop",
        usage=Usage(input_tokens=prompt_tokens, output_tokens=generation.tokens),
    )


def _scored(
    request: Request, prompt_tokens: int, choices: tuple[str, ...], continuations: list[list[int]], scores: list[float]
) -> Response:
    best = max(range(len(choices)), key=scores.__getitem__)
    ranked = sorted(zip(choices, scores, strict=True), key=lambda pair: -pair[1])
    top = tuple(TopLogprob(token=choice, logprob=score) for choice, score in ranked)
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant(choices[best]),
        finish_reason="stop",
        usage=Usage(input_tokens=prompt_tokens, output_tokens=len(continuations[best])),
        logprobs=(TokenLogprob(token=choices[best], logprob=scores[best], top=top),),
    )
