"""Demonstrations chosen for each input: its nearest neighbours in a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Nearest"]


class Nearest(BaseModel):
    """A pool of demonstrations, of which each input is shown the nearest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: tuple[dict[str, Any], ...]
    count: int
    embedder: str = "all-minilm-l6-v2"
    order: Literal["nearest_last", "nearest_first"] = "nearest_last"

    def select(self, signature: Any, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        raise NotImplementedError
