"""Where inputs lie: how far from others, and in which clusters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import dspy
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from ..lms.models import EMBEDDERS, installed
from ..retrievers.embedders import Embedder, find_embedder
from .slicing import input_text

__all__ = ["FAR", "clusters", "distinctive_words", "placed", "strangeness"]

FAR = 0.05
"""The strangeness of what is told to be far."""

_A_CLUSTER, _MOST = 25, 8
_WORDS, _MORE = 4, 0.15


def strangeness(vectors: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """Gives of each input the share of known ones that are as far from their nearest neighbour as it is from its own.

    In the manner of a conformal p-value (`Vovk, Gammerman & Shafer 2005 <https://doi.org/10.1007/b106715>`_): of inputs
    like the known ones about 5 % have 0.05 or less, whatever the embedder.

    Args:
        vectors: Of shape (inputs, dimension), of length 1.
        known: Of the known ones.

    >>> known = np.array([[1, 0], [0.99, 0.14], [0.98, 0.2]], np.float32)
    >>> strangeness(np.array([[0, 1], [1, 0]], np.float32), known).tolist()
    [0.25, 1.0]
    """
    among = known @ known.T
    np.fill_diagonal(among, -np.inf)
    usual = np.sort(among.max(axis=1).astype(np.float64))
    nearest = (vectors @ known.T).max(axis=1).astype(np.float64)
    shares: NDArray[np.float64] = (1 + np.searchsorted(usual, nearest, side="right")) / (len(known) + 1)
    return shares


def placed(
    examples: Sequence[dspy.Example], train: Sequence[dspy.Example], embedder: Embedder | str | None, seed: int
) -> tuple[Sequence[float] | None, list[str] | None, list[str]]:
    """How strange each input is to train, and the name of its cluster."""
    if isinstance(embedder, str):
        if embedder in EMBEDDERS and not installed(embedder):
            told = f"What is far from train, and clusters, want an embedder: progspace models install {embedder}."
            return None, None, [told]
        embedder = find_embedder(embedder)
    if embedder is None:
        return None, None, ["Nothing was embedded: nothing is told to be far from train, and there are no clusters."]
    texts = [input_text(example) for example in examples]
    seen = set(texts)
    known = [text for text in dict.fromkeys(map(input_text, train)) if text not in seen]
    vectors = embedder.embed([*texts, *known])
    labels = clusters(vectors[: len(texts)], seed=seed)
    names: dict[int, str] = {}
    for label in np.unique(labels).tolist():
        inside = [text for text, own in zip(texts, labels, strict=True) if own == label]
        words = distinctive_words(inside, [text for text, own in zip(texts, labels, strict=True) if own != label])
        told = ", ".join(words)
        names[label] = told if told and told not in names.values() else f"{told or 'no word in common'} ({label + 1})"
    far = None
    notes = []
    if len(known) * FAR >= 1:
        far = strangeness(vectors[: len(texts)], vectors[len(texts) :]).tolist()
    else:
        notes.append("What is far from train cannot be told: of train, 20 inputs besides these are wanted.")
    return far, [names[int(label)] for label in labels], notes


def clusters(vectors: NDArray[np.float32], *, seed: int) -> NDArray[np.int64]:
    """Gives each input's cluster: k-means (`Lloyd 1982 <https://doi.org/10.1109/TIT.1982.1056489>`_), 25 inputs each.

    All are one where there are fewer than 50, or where they are alike; there are eight at most. Clusters are made of
    the inputs alone, so that a program's scores in them can be tested.
    """
    points = vectors.astype(np.float64)
    count = min(_MOST, len(points) // _A_CLUSTER, len(np.unique(points.round(6), axis=0)))
    if count < 2:
        return np.zeros(len(points), np.int64)
    _, labels = kmeans2(points, count, minit="++", rng=np.random.default_rng(seed))
    return labels.astype(np.int64)


def distinctive_words(inside: Sequence[str], outside: Sequence[str]) -> tuple[str, ...]:
    """Gives words of four letters or more that some texts hold more often than others, the most telling first; four.

    >>> distinctive_words(["a late train", "the train was late"], ["a good book", "the book"])
    ('late', 'train')
    """
    counts = [Counter(word for text in texts for word in set(_words(text))) for texts in (inside, outside)]
    more = {word: counts[0][word] / max(1, len(inside)) - counts[1][word] / max(1, len(outside)) for word in counts[0]}
    ranked = sorted((word for word in more if more[word] >= _MORE), key=lambda word: (-more[word], word))
    return tuple(ranked[:_WORDS])


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{4,}", text.casefold())
