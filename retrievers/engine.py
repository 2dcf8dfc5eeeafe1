"""What an engine is to a collection: an embedded shard and a server are used through the same few calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .plan import Step
from .sparse import Bm25Settings, Sparse

__all__ = ["EF", "EF_CONSTRUCT", "FORMAT", "Engine", "Found", "M", "Making", "Point"]

FORMAT = 1
"""Of what is stored; a collection of a newer one is refused."""

M, EF_CONSTRUCT, EF = 16, 128, 128
"""Of HNSW (`Malkov & Yashunin 2018 <https://arxiv.org/abs/1603.09320>`_): edges of a node, and how many candidates are
looked at when the graph is built and when it is searched."""


class Making(BaseModel):
    """What a collection was made by; kept with it, since vectors of two makings have nothing to do with each other."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    embedder: str
    dimension: int = Field(gt=0)
    chunking: str = ""
    bm25: Bm25Settings = Bm25Settings()


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A passage as it is stored: its id, both vectors, and the rest."""

    id: str
    dense: NDArray[np.float32]
    sparse: Sparse
    payload: dict[str, Any]


Found = tuple[str, float, dict[str, Any]]
"""A point's id, score and payload."""


class Engine(Protocol):
    """Stores points and runs searches; every fault is a `RetrievalError` that names the place."""

    place: str
    making: Making

    def upsert(self, points: Sequence[Point]) -> None:
        """Stores points, in place of those with the same ids."""

    def delete(self, ids: Sequence[str]) -> None:
        """Removes points; an unknown id is no fault."""

    def query(self, steps: Sequence[Step]) -> list[list[Found]]:
        """Runs searches together."""

    def points(self, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Gives every point's id and those fields of its payload."""

    def count(self) -> int:
        """How many points there are."""

    def revision(self) -> object:
        """Equal to an earlier one only if the points are the same."""

    def flush(self) -> None:
        """Returns when what was stored is on the disk."""

    def optimize(self) -> None:
        """Builds the index; returns when it is built."""

    def close(self) -> None:
        """Lets go of it; closing twice is no fault."""
