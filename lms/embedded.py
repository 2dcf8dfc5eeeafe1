"""The embedded LM: one engine a process for each model, shared by all threads and tasks."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import LMError
from .adapters import Adapter, merged_folder
from .generation import Generation, GenerationOptions, Generator
from .models import locate
from .scoring import Scorer

__all__ = ["EmbeddedEngine", "Precision", "engine_for"]

Precision = Literal["f32", "bf16"]
_DEFAULT_CONTEXT_LENGTH = 2048


class EmbeddedEngine:
    """Tokenizes, generates and scores with one model in this process; each part is loaded at its first use.

    Args:
        folder: An OpenVINO folder, as `progspace.lms.models.locate` gives it.
        context_length: The longest prompt and answer together, in tokens.
        precision: Of generation. ``f32`` gives the same greedy answer whatever else runs beside it; ``bf16`` is faster
            where the CPU has it, and near-ties may fall either way with the batch. Scores are always computed in f32.
    """

    def __init__(self, folder: Path, context_length: int | None, precision: Precision) -> None:
        self.folder = folder
        self._declared_context_length = context_length or _DEFAULT_CONTEXT_LENGTH
        self.precision = precision
        self._process = os.getpid()
        self._lock = threading.RLock()

    @cached_property
    def tokenizer(self) -> Any:
        """The model's ``openvino_genai.Tokenizer``."""
        import openvino_genai

        return openvino_genai.Tokenizer(str(self.folder))

    @cached_property
    def context_length(self) -> int:
        """The longest prompt and answer together, in tokens.

        A tokenizer may cut what is longer than it holds, silently; so its own limit counts too, and a prompt that
        reaches the limit is one that was cut.
        """
        longer = "a " * (self._declared_context_length + 1)
        return min(self._declared_context_length, len(self.encode(longer)))

    @cached_property
    def _generator(self) -> Generator:
        return Generator(self.folder, self.precision, self.tokenizer)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.folder)

    def encode(self, text: str) -> list[int]:
        """Gives the tokens of a text, with no token added."""
        self._check_process()
        with self._lock:
            return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Writes chat messages as the model was trained on them, up to where the assistant begins."""
        self._check_process()
        with self._lock:
            rendered: str = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        return rendered

    def generate(
        self, prompt: list[int], options: GenerationOptions, on_text: Callable[[str], None] | None = None
    ) -> Future[Generation]:
        """Queues a prompt for generation; ``on_text`` is told the answer piece by piece.

        Raises:
            LMError: The process was forked after the engine had started.
        """
        self._check_process()
        with self._lock:
            generator = self._generator
        return generator.submit(prompt, options, on_text)

    def score(self, prefix: list[int], tail: list[int], continuations: list[list[int]]) -> Future[list[float]]:
        """Queues a prompt, ``prefix + tail``, for the log-probability of each continuation.

        Raises:
            LMError: The process was forked after the engine had started.
        """
        self._check_process()
        with self._lock:
            scorer = self._scorer
        return scorer.submit(prefix, tail, continuations)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise LMError(
                "the embedded LM was started before this process was forked from its parent, and its threads do not "
                "live on here; start the process by 'spawn', or make no ps.lm('local') before the fork"
            )


_engines: dict[tuple[Path, str], EmbeddedEngine] = {}
_engines_lock = threading.Lock()


def engine_for(model: str, precision: Precision, adapter: Adapter | None = None) -> EmbeddedEngine:
    """Gives the process's engine for a model, with the adapter in its weights: the same one to all who ask.

    Raises:
        ModelNotFound: The model is not on this machine; the message holds the command that mends it.
        LMError: The process was forked from one that had an engine running, or the adapter is missing, altered, or of
            another model.
    """
    folder, context_length = locate(model)
    if adapter is not None:
        folder = merged_folder(folder, adapter)
    with _engines_lock:
        engine = _engines.get((folder, precision))
        if engine is None:
            engine = _engines[folder, precision] = EmbeddedEngine(folder, context_length, precision)
        engine._check_process()
        return engine


# Before the interpreter takes its modules apart: the engines' C++ destructors still call into them.
atexit.register(_engines.clear)
