"""Demonstrations chosen for each input: its nearest neighbours in a pool."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # a program without a pool does without numpy
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Nearest", "PoolIndex", "input_texts", "pool_index"]

_POOLS = 64
_INPUTS = 8192
_LONGEST = 4000  # characters of a field that are embedded: more than an embedder reads
_DIGITS = 5  # of a similarity: beyond them two texts are equally near, whatever the machine rounds to


class Nearest(BaseModel):
    """A pool of demonstrations, of which each input is shown the nearest; immutable, the same wherever it is equal.

    (`Liu et al. 2022, What makes good in-context examples for GPT-3? <https://arxiv.org/abs/2101.06804>`_.)

    How near two inputs are is the mean, over the signature's input fields, of the cosine of their embeddings. What is
    selected depends on the pool and the inputs alone.

    Attributes:
        pool: The demonstrations that may be shown, each a value by field name, as JSON.
        count: How many are shown.
        embedder: An embedded model of ``progspace models list``.
        order: Whether the nearest stands last, beside the input, or first.

    >>> Nearest(pool=({"text": "Superb.", "label": "positive"}, {"text": "Dull.", "label": "negative"}), count=1).label
    '1 nearest of 2'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: tuple[dict[str, Any], ...]
    count: int = Field(ge=1)
    embedder: str = "all-minilm-l6-v2"
    order: Literal["nearest_last", "nearest_first"] = "nearest_last"

    @property
    def label(self) -> str:
        """What a person reads."""
        order = "" if self.order == "nearest_last" else ", nearest first"
        return f"{self.count} nearest of {len(self.pool)}{order}"

    def select(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Gives the demonstrations that are nearest to the inputs.

        One whose inputs equal these is never shown: what is bootstrapped or measured on the examples of the pool itself
        does not find its own answer in the prompt. Equal demonstrations are shown once.

        Args:
            signature: Its input fields are compared.
            inputs: Values by field name.

        Raises:
            ModelNotFound: The embedder is not on this machine; the message holds the command that mends it.
        """
        if not self.pool:
            return []
        import numpy as np

        fields = tuple(signature.input_fields)
        index = pool_index(self.pool, fields, self.embedder)
        own = input_texts(inputs, fields)
        similarity = index.similarity(np.stack([_vector(self.embedder, text) for text in own]))
        ranked = np.argsort(-np.round(similarity, _DIGITS), kind="stable")
        near = [index.demonstrations[row] for row in ranked if not _same(index.texts[row], own)][: self.count]
        return [dict(each) for each in (near if self.order == "nearest_first" else reversed(near))]


def _same(shown: Sequence[str], own: Sequence[str]) -> bool:
    """Tells whether a demonstration's inputs are these; one that lacks some, as labels of a chain do, by the others."""
    if not any(shown):
        return not any(own)
    return all(each in ("", other) for each, other in zip(shown, own, strict=True))


def input_texts(values: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """Gives the text of each field that inputs are compared by; empty where there is none.

    >>> input_texts({"question": "How far?", "stops": ["A", "B"]}, ["question", "stops", "hint"])
    ('How far?', '["A", "B"]', '')
    """
    return tuple(_text(values.get(field)) for field in fields)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(serialize_for_json(value), ensure_ascii=False)
    return text[:_LONGEST]


@lru_cache(_INPUTS)
def _vector(embedder: str, text: str) -> NDArray[np.float32]:
    """Embeds one text, alone: beside others its last digits would depend on them."""
    from ..lms.embedder import embedder_for

    vector: NDArray[np.float32] = embedder_for(embedder).embed([text])[0]
    return vector


def pool_index(pool: tuple[dict[str, Any], ...], fields: tuple[str, ...], embedder: str) -> PoolIndex:
    """Gives the index of a pool: computed once in a process for all pools of equal content, and kept for a while.

    Raises:
        ModelNotFound: The embedder is not on this machine; the message holds the command that mends it.
    """
    # The entry holds the pool itself, so that no other can take its address.
    _, digest = _digests.get(id(pool), lambda: (pool, _digest(pool)))
    return _indices.get((digest, fields, embedder), lambda: PoolIndex.of(pool, fields, embedder))


@dataclass(frozen=True, slots=True)
class PoolIndex:
    """A pool's different demonstrations, and where their inputs lie.

    Attributes:
        demonstrations: In the pool's order.
        texts: Of each, the text of each input field.
        vectors: Of these, of shape (demonstrations, fields, dimension), each of length 1.
    """

    demonstrations: tuple[dict[str, Any], ...]
    texts: tuple[tuple[str, ...], ...]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, pool: Sequence[dict[str, Any]], fields: tuple[str, ...], embedder: str) -> PoolIndex:
        """Embeds the inputs of a pool."""
        from ..lms.embedder import embedder_for

        different = tuple({_written(each): each for each in pool}.values())
        texts = tuple(input_texts(each, fields) for each in different)
        flat = embedder_for(embedder).embed([text for each in texts for text in each])
        return cls(different, texts, flat.reshape(len(different), len(fields), -1))

    def similarity(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Gives the mean cosine of each demonstration's fields with those of an input, of shape (fields, dimension)."""
        import numpy as np

        similarity: NDArray[np.float64] = np.einsum("nfd,fd->n", self.vectors, vectors, dtype=np.float64)
        return similarity / max(1, len(vectors))


def _written(demonstration: Mapping[str, Any]) -> str:
    return json.dumps(demonstration, sort_keys=True, ensure_ascii=False, default=repr)


def _digest(pool: Sequence[Mapping[str, Any]]) -> str:
    digest = hashlib.sha256()
    for each in pool:
        digest.update(_written(each).encode() + b"\n")
    return digest.hexdigest()


_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class _Recent(Generic[_Key, _Made]):
    """Makes a thing once for all threads, and forgets those that were not asked for lately."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._made: OrderedDict[_Key, _Made] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], _Made]) -> _Made:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                if len(self._made) > self._size:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


# What was computed of a pool's content, in this process: many candidates share a pool.
_digests: _Recent[int, tuple[tuple[dict[str, Any], ...], str]] = _Recent(4 * _POOLS)
_indices: _Recent[tuple[str, tuple[str, ...], str], PoolIndex] = _Recent(_POOLS)
