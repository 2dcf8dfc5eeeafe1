"""Reranking: passages that a search found, put in order by a scorer that reads query and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..errors import RetrievalError
from .passage import Passages

__all__ = ["CrossEncoder", "Reranker", "reranked"]


class Reranker(Protocol):
    """Scores passages for a query.

    Attributes:
        name: Which one it is; scores of programs that use it are stored under this.
    """

    name: str

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Gives a score for each text; higher is better."""


class CrossEncoder:
    """A cross-encoder of fastembed, whose weights are downloaded at its first use.

    (`Nogueira & Cho 2019 <https://arxiv.org/abs/1901.04085>`_.) It was not run by progspace's own tests, which have no
    network; they run another `Reranker`.

    Args:
        model: As fastembed names it.
    """

    def __init__(self, model: str = "Xenova/ms-marco-MiniLM-L-6-v2") -> None:
        self.name = f"fastembed/{model}"
        self._model, self._encoder = model, None

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Gives the encoder's scores.

        Raises:
            RetrievalError: fastembed is not installed.
        """
        return [float(each) for each in self._loaded().rerank(query, list(texts))]

    def _loaded(self) -> Any:
        if self._encoder is None:
            try:
                from fastembed.rerank.cross_encoder import TextCrossEncoder
            except ImportError as missing:
                raise RetrievalError("cross-encoders are fastembed's: pip install fastembed") from missing
            self._encoder = TextCrossEncoder(self._model)
        return self._encoder


def reranked(query: str, found: Passages, reranker: Reranker) -> Passages:
    """Gives passages in the order of a reranker's scores, which become theirs.

    Raises:
        RetrievalError: The reranker gave another number of scores.
    """
    scores = [float(each) for each in reranker.score(query, [passage.text for passage in found])] if found else []
    if len(scores) != len(found):
        raise RetrievalError(f"the reranker {reranker.name!r} gave {len(scores)} scores for {len(found)} passages")
    best = sorted(range(len(scores)), key=lambda index: -scores[index])
    return found.like(replace(found[index], score=scores[index]) for index in best)
