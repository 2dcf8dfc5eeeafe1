"""Free and constrained generation with the embedded LM, in continuous batches.

Requests of any number of threads and tasks are answered together: one thread steps openvino-genai's batching pipeline
while there is work, and ends with it.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dspy.lm15 import InvalidRequestError

__all__ = ["MAX_SEQUENCES", "Generation", "GenerationOptions", "Generator"]

MAX_SEQUENCES = 64
_MAX_BATCHED_TOKENS = 256
_CACHE_GB = 2
_PAUSE = 0.0015  # seconds for each finished request


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How one answer is decoded; without a temperature greedily.

    Attributes:
        max_tokens: The longest answer, in tokens.
        temperature: 0 for greedy decoding.
        top_p: Nucleus sampling; used with a temperature.
        top_k: Sampling from the k likeliest; used with a temperature.
        seed: Of the sampling.
        stop: Texts before which the answer ends.
        choices: The answer is one of these texts.
        regex: The answer matches this regular expression.
        json_schema: The answer is JSON of this schema.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    regex: str | None = None
    json_schema: Mapping[str, Any] | None = None

    @property
    def constrained(self) -> bool:
        """Whether a grammar holds the answer."""
        return bool(self.choices) or self.regex is not None or self.json_schema is not None


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer: its text, the number of its tokens, and why it ended (``stop`` or ``length``)."""

    text: str
    tokens: int
    finish_reason: str


@dataclass(slots=True)
class _Request:
    ids: list[int]
    options: GenerationOptions
    on_text: Callable[[str], None] | None
    future: Future[Generation] = field(default_factory=Future)
    tokens: list[int] = field(default_factory=list)
    reason: Any = None
    shown: int = 0  # characters

    # Until its answer is there the future can be cancelled, which gives the answer up.
    def answer(self, generation: Generation) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(generation)

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Generator:
    """Answers prompts, given as token ids, with ``openvino_genai.ContinuousBatchingPipeline``.

    Args:
        folder: An OpenVINO folder.
        precision: ``f32`` or ``bf16``.
        tokenizer: The folder's ``openvino_genai.Tokenizer``.
    """

    def __init__(self, folder: Path, precision: str, tokenizer: Any) -> None:
        import openvino_genai as genai

        self._genai = genai
        self._folder, self._precision = folder, precision
        self._tokenizer = tokenizer
        self._pipeline: Any = self._loaded()
        self._ids = itertools.count()
        self._lock = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._suspects: deque[_Request] = deque()  # one of them failed a step; each runs by itself
        self._thread: threading.Thread | None = None

    def _loaded(self) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.dynamic_split_fuse = True
        scheduler.max_num_seqs = MAX_SEQUENCES
        scheduler.max_num_batched_tokens = _MAX_BATCHED_TOKENS
        scheduler.cache_size = _CACHE_GB
        properties = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "KV_CACHE_PRECISION": self._precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        return self._genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", properties)

    def submit(
        self, ids: list[int], options: GenerationOptions, on_text: Callable[[str], None] | None = None
    ) -> Future[Generation]:
        """Queues a prompt; the future holds its answer, and who cancels it gives the answer up.

        ``on_text`` is told the answer's text piece by piece, in the engine's own thread.
        """
        request = _Request(ids, options, on_text)
        with self._lock:
            self._waiting.append(request)
            self._lock.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progspace-generation")
                self._thread.start()
        return request.future

    def _run(self) -> None:
        running: list[tuple[_Request, Any]] = []
        while True:
            with self._lock:
                arrived = self._arrived(bool(running))
                if not arrived and not running:
                    self._thread = None
                    return
            for request in arrived:
                self._start(request, running)
            try:
                if running:
                    self._pipeline.step()
            except Exception as error:
                self._begin_anew([request for request, _ in running], error)
                running.clear()
                continue
            before = len(running)
            running = [(request, handle) for request, handle in running if not self._finished(request, handle)]
            self._await_successors(before - len(running))

    def _arrived(self, busy: bool) -> list[_Request]:
        """Gives what is to be started: all that waits, or one suspect after the other."""
        if self._suspects:
            return [] if busy else [self._suspects.popleft()]
        arrived = list(self._waiting)
        self._waiting.clear()
        return arrived

    def _begin_anew(self, running: list[_Request], error: Exception) -> None:
        """Loads the pipeline anew and starts its requests again, since a step that failed fails for ever.

        What fails a step is a grammar that cannot be decoded by, and it is only found out there; so of several requests
        that have one each runs by itself, until the one that fails is known. The others' answers stay what they were.
        """
        self._pipeline = None
        suspects = [request for request in running if request.options.constrained]
        if len(running) == 1 or not suspects:
            for request in running:
                request.fail(_unfit(error) if request.options.constrained else error)
        else:
            self._suspects.extend(suspects)
            with self._lock:
                self._waiting.extendleft(request for request in reversed(running) if not request.options.constrained)
        self._pipeline = self._loaded()

    def _await_successors(self, finished: int) -> None:
        """Gives those who got answers the time to ask on.

        The pipeline's step holds Python's interpreter lock, so its callers can only run between two steps; without a
        pause the next step would begin half empty.
        """
        deadline = time.monotonic() + _PAUSE * finished
        with self._lock:
            while len(self._waiting) < finished and (left := deadline - time.monotonic()) > 0:
                self._lock.wait(left)

    def _start(self, request: _Request, running: list[tuple[_Request, Any]]) -> None:
        import openvino as ov

        if request.future.cancelled():
            return
        request.tokens.clear()
        try:
            ids = ov.Tensor(np.array([request.ids], np.int64))
            running.append((request, self._pipeline.add_request(next(self._ids), ids, self._config(request.options))))
        except Exception as error:
            request.fail(error)

    def _finished(self, request: _Request, handle: Any) -> bool:
        """Tells whether a request has its answer; one that cannot be read fails alone, and the others go on."""
        try:
            return self._finish(request, handle)
        except Exception as error:
            handle.cancel()
            request.fail(error)
            return True

    def _finish(self, request: _Request, handle: Any) -> bool:
        if request.future.cancelled():
            handle.cancel()
            return True
        status = handle.get_status()
        running = status == self._genai.GenerationStatus.RUNNING
        if running and request.on_text is None:
            return False
        while handle.can_read():
            for output in handle.read().values():
                request.tokens += output.generated_ids
                request.reason = output.finish_reason
        if running:
            self._tell(request, self._text(request)[0])
            return False
        if status != self._genai.GenerationStatus.FINISHED:
            request.fail(MemoryError(f"the engine gave the request up ({status.name.lower()})"))
            return True
        text, whole = self._text(request)
        self._tell(request, text, ended=True)
        by_length = request.reason == self._genai.GenerationFinishReason.LENGTH
        request.answer(Generation(text, len(request.tokens), "length" if by_length and whole else "stop"))
        return True

    def _text(self, request: _Request) -> tuple[str, bool]:
        """Gives the text so far up to where it stops, and whether that is all of it."""
        text = self._tokenizer.decode(request.tokens) if request.tokens else ""  # it may end before its first token
        cut = min((at for stop in request.options.stop if (at := text.find(stop)) >= 0), default=len(text))
        return text[:cut], cut == len(text)

    @staticmethod
    def _tell(request: _Request, text: str, *, ended: bool = False) -> None:
        """Tells what is new of a text; not yet what may be half a character, or the beginning of a stop."""
        if request.on_text is None:
            return
        held = 0 if ended else max(map(len, request.options.stop), default=1) - 1
        safe = len(text if ended else text.rstrip("\N{REPLACEMENT CHARACTER}")) - held
        if safe > request.shown:
            request.on_text(text[request.shown : safe])
            request.shown = safe

    def _config(self, options: GenerationOptions) -> Any:
        genai = self._genai
        config = genai.GenerationConfig(max_new_tokens=options.max_tokens)
        config.set_eos_token_id(self._tokenizer.get_eos_token_id())
        config.stop_strings = set(options.stop)
        if options.temperature > 0:
            config.do_sample = True
            config.temperature = options.temperature
            config.rng_seed = options.seed
            if options.top_p is not None:
                config.top_p = options.top_p
            if options.top_k is not None:
                config.top_k = options.top_k
        if options.choices:
            const = genai.StructuredOutputConfig.ConstString
            alternatives = [const(choice) for choice in options.choices]
            grammar = alternatives[0] if len(alternatives) == 1 else genai.StructuredOutputConfig.Union(alternatives)
            config.structured_output_config = genai.StructuredOutputConfig(compound_grammar=grammar)
        elif options.regex is not None:
            config.structured_output_config = genai.StructuredOutputConfig(regex=options.regex)
        elif options.json_schema is not None:
            schema = json.dumps(options.json_schema)
            config.structured_output_config = genai.StructuredOutputConfig(json_schema=schema)
        return config


def _unfit(error: Exception) -> InvalidRequestError:
    """Says that an answer cannot be held to its form, and why, without where the engine was built."""
    return InvalidRequestError(f"no answer can be held to that form: {re.sub(r'^.*[.]cc:[0-9]+: ', '', str(error))}")
