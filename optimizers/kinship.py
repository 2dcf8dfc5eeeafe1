"""What candidates have in common: the quality model draws those of a kind towards each other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..programs.candidate import Candidate

__all__ = ["groups"]


def groups(candidates: Sequence[Candidate]) -> NDArray[np.int64]:
    """Codes what candidates are made of, part by part.

    Args:
        candidates: Of one program.

    Returns:
        Candidates × parts: format and decoding, hints, instructions, how many demonstrations, ways to answer and LMs;
        where any says how to retrieve, ways to search and to show what was found. Those of equal code in a column share
        that part.
    """
    looked_up = any(candidate.retrievals for candidate in candidates)
    parts = [(*_parts(each), *(_retrieval_parts(each) if looked_up else ())) for each in candidates]
    columns = []
    for column in zip(*parts, strict=True):
        codes = {value: code for code, value in enumerate(dict.fromkeys(column))}
        columns.append([codes[value] for value in column])
    coded: NDArray[np.int64] = np.array(columns, np.int64).T.reshape(len(candidates), -1)
    return coded


def _parts(candidate: Candidate) -> tuple[str, ...]:
    choices = [choice for _, choice in sorted(candidate.predictors.items())]

    def told(*values: object) -> str:
        return json.dumps(values, default=str, sort_keys=True)

    return (
        told([[c.format.kind, c.format.decoding] if c.format else None for c in choices]),
        told([c.format.hints if c.format else None for c in choices]),
        told([c.instruction for c in choices]),
        told([(len(c.demonstrations or ()), c.nearest.count if c.nearest else 0) for c in choices]),
        told([[c.answering.model_dump() if c.answering else None, c.lm] for c in choices]),
    )


def _retrieval_parts(candidate: Candidate) -> tuple[str, ...]:
    choices = [choice for _, choice in sorted(candidate.retrievals.items())]
    return (
        json.dumps([[choice.search.k if choice.search else None, choice.order, choice.layout] for choice in choices]),
        json.dumps(
            [[choice.search.mode if choice.search else None, choice.query, choice.judged] for choice in choices]
        ),
    )
