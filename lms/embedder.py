"""Texts as vectors: the embedded sentence embedder, one a process, shared by all threads and tasks."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import LMError
from .embedder_graph import EMBEDDER_GRAPH, EMBEDDER_TOKENIZER
from .models import DEFAULT_EMBEDDER, locate_embedder

__all__ = ["EmbeddedEmbedder", "Embedder", "embedder_for"]

_TOKENS_AT_A_TIME = 512


class Embedder(Protocol):
    """Makes vectors of texts.

    Attributes:
        name: Which one it is; vectors of two different ones have nothing to do with each other.
    """

    name: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives an array of shape (texts, dimension) whose rows have length 1: their products are cosines."""


class EmbeddedEmbedder:
    """A BERT whose tokens are averaged, in this process; loaded at its first use.

    (`Reimers & Gurevych 2019, Sentence-BERT <https://arxiv.org/abs/1908.10084>`_.)

    Args:
        name: Its name in the registry.
        folder: Where it is provisioned.
        max_tokens: What is longer is cut.
    """

    def __init__(self, name: str, folder: Path, max_tokens: int) -> None:
        self.name = name
        self.folder, self.max_tokens = folder, max_tokens
        self._process: int | None = None
        self._lock = threading.RLock()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives an array of shape (texts, dimension) whose rows have length 1.

        Texts of about the same length run together, so that little is computed for padding.

        Raises:
            LMError: The process was forked after the embedder had been loaded.
        """
        import openvino as ov

        self._check_process()
        with self._lock:
            tokenizer, graph = self._tokenizer, self._graph
        tokens = [tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), int(graph.output(0).get_partial_shape()[1].get_length())), np.float32)
        if not tokens:
            return vectors

        def done(request: Any, batch: list[int]) -> None:
            vectors[batch] = request.get_output_tensor(0).data

        batches = _batches(tokens)
        running = ov.AsyncInferQueue(graph, min(len(batches), _processors()))
        running.set_callback(done)
        for batch in batches:
            running.start_async(_padded([tokens[text] for text in batch]), batch)
        running.wait_all()
        return vectors

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / EMBEDDER_TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _graph(self) -> Any:
        import openvino as ov

        self._process = os.getpid()
        # One thread a text, or a batch: beside a busy LM, threads that wait for each other take twice as long.
        streams = _processors()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
        return ov.Core().compile_model(str(self.folder / EMBEDDER_GRAPH), "CPU", settings)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Gives how many tokens each text has, also where that is more than are read."""
        with self._lock:
            return [len(encoding.ids) for encoding in self._counter.encode_batch(list(texts))]

    @cached_property
    def _counter(self) -> Any:
        from tokenizers import Tokenizer

        counter = Tokenizer.from_file(str(self.folder / EMBEDDER_TOKENIZER))
        counter.no_padding()
        counter.no_truncation()
        return counter

    def _check_process(self) -> None:
        if self._process not in (None, os.getpid()):
            raise LMError(
                "the embedder was loaded before this process was forked from its parent, and its threads do not live "
                "on here; start the process by 'spawn'"
            )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _padded(tokens: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(tokens):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    return {"input_ids": ids, "attention_mask": mask}


def _batches(tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups texts, shorter ones first, so that a group with its padding has about so many tokens at most."""
    batches: list[list[int]] = []
    for text in sorted(range(len(tokens)), key=lambda each: len(tokens[each])):
        if batches and (len(batches[-1]) + 1) * len(tokens[text]) <= _TOKENS_AT_A_TIME:
            batches[-1].append(text)
        else:
            batches.append([text])
    return batches


_embedders: dict[Path, EmbeddedEmbedder] = {}
_embedders_lock = threading.Lock()


def embedder_for(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """Gives the process's embedder: the same one to all who ask.

    Raises:
        ModelNotFound: It is not on this machine; the message holds the command that mends it.
        LMError: The process was forked from one that had loaded it.

    >>> near, far = embedder_for().embed(["A great movie.", "My card was declined."])
    >>> asked = embedder_for().embed(["I liked this film."])[0]
    >>> bool(asked @ near > asked @ far)
    True
    """
    folder, max_tokens = locate_embedder(name)
    with _embedders_lock:
        embedder = _embedders.get(folder)
        if embedder is None:
            embedder = _embedders[folder] = EmbeddedEmbedder(name, folder, max_tokens)
        embedder._check_process()
        return embedder


# Before the interpreter takes its modules apart: the graphs' C++ destructors still call into them.
atexit.register(_embedders.clear)
