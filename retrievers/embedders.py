"""Who makes vectors of texts: the embedded embedder, an endpoint, fastembed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RetrievalError
from ..lms.embedder import Embedder, embedder_for
from ..lms.models import DEFAULT_EMBEDDER

__all__ = ["Embedder", "FastEmbedEmbedder", "OpenAIEmbedder", "embedder_for", "find_embedder"]

_AT_A_TIME = 4  # requests; an endpoint that grants fewer says so, and the SDK waits
_CHARACTERS_A_REQUEST = 400_000  # some 100,000 tokens: endpoints refuse more than 300,000


class OpenAIEmbedder:
    """An embedder behind an endpoint that speaks OpenAI's embeddings API.

    Args:
        model: As the endpoint names it: ``text-embedding-3-small``.
        base_url: Of an endpoint other than OpenAI's: ``http://127.0.0.1:8000/v1``.
        api_key: The key, or what gives it at each request; None: ``OPENAI_API_KEY`` of the environment. It is neither
            stored nor shown.
        dimensions: Asked of models that can shorten their vectors.
        batch: Texts a request.
        retries: Of one request that was throttled or failed; the endpoint's ``Retry-After`` is kept to.
        timeout: Seconds of one request.
        tokenizer_file: The ``tokenizer.json`` of the model; without it, four characters are taken for a token where
            documents are split.

    Attributes:
        name: The model and its dimensions; the endpoint is no part of it, so that it may move.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        dimensions: int | None = None,
        batch: int = 128,
        retries: int = 5,
        timeout: float = 60.0,
        tokenizer_file: str | Path | None = None,
    ) -> None:
        self.model, self.base_url, self.dimensions = model, base_url, dimensions
        self.batch, self.retries, self.timeout = batch, retries, timeout
        self.tokenizer_file = None if tokenizer_file is None else Path(tokenizer_file)
        self.name = f"openai/{model}" if dimensions is None else f"openai/{model}@{dimensions}"
        self._api_key = api_key
        self._dimension = dimensions or 0

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self.model!r}, base_url={self.base_url!r})"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives an array of shape (texts, dimension) whose rows have length 1.

        Raises:
            RetrievalError: The endpoint did not answer, or not with vectors; it tells whether to try again.
        """
        if not texts:
            return np.empty((0, self._dimension), np.float32)
        batches = list(self._batches(texts))
        if len(batches) == 1:
            return self._ask(batches[0])
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return np.concatenate(list(pool.map(self._ask, batches)))

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for text in texts:
            if batch and (len(batch) == self.batch or size + len(text) > _CHARACTERS_A_REQUEST):
                yield batch
                batch, size = [], 0
            batch.append(text)
            size += len(text)
        yield batch

    def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        import openai

        asked: dict[str, Any] = {} if self.dimensions is None else {"dimensions": self.dimensions}
        try:
            # As numbers: not every endpoint knows the SDK's default, base64.
            answer = self._client.embeddings.create(input=texts, model=self.model, encoding_format="float", **asked)
            rows = sorted(answer.data, key=lambda each: each.index)
            vectors = np.asarray([row.embedding for row in rows], np.float32)
        except openai.APIStatusError as error:
            retryable = error.status_code in (408, 409, 429) or error.status_code >= 500
            raise RetrievalError(f"{self._where} answered {error.status_code}: {error.message[:300]}",
                                 retryable=retryable) from error  # fmt: skip
        except openai.APIConnectionError as error:
            told = "did not answer in time" if isinstance(error, openai.APITimeoutError) else "cannot be reached"
            raise RetrievalError(f"{self._where} {told} ({self.retries} retries)", retryable=True) from error
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            raise RetrievalError(f"{self._where} gave no vectors ({type(error).__name__})") from error
        return self._checked(vectors, len(texts))

    def _checked(self, vectors: NDArray[np.float32], texts: int) -> NDArray[np.float32]:
        if vectors.ndim != 2 or len(vectors) != texts:
            raise RetrievalError(f"{self._where} gave {len(vectors)} vectors for {texts} texts")
        self._dimension = self._dimension or vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            raise RetrievalError(f"{self._where} gave {vectors.shape[1]} dimensions, not {self._dimension} as before")
        return _unit(vectors, self._where)

    @property
    def _where(self) -> str:
        return f"the embedder {self.model}" + (f" at {self.base_url}" if self.base_url else "")

    @cached_property
    def _client(self) -> Any:
        import openai

        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key and not self.base_url:
            raise RetrievalError(f"{self._where} needs a key: set OPENAI_API_KEY, or give api_key")
        # A server of one's own may want no key, but the SDK does.
        return openai.OpenAI(
            api_key=key or "none", base_url=self.base_url, max_retries=self.retries, timeout=self.timeout
        )


class FastEmbedEmbedder:
    """A model of `fastembed <https://qdrant.github.io/fastembed/>`_, which fetches its weights at its first use.

    It is not tested here, where nothing can be fetched.

    Args:
        model: As fastembed names it: ``BAAI/bge-small-en-v1.5``.
    """

    def __init__(self, model: str = "BAAI/bge-small-en-v1.5") -> None:
        self.model = model
        self.name = f"fastembed/{model}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives an array of shape (texts, dimension) whose rows have length 1.

        Raises:
            RetrievalError: fastembed is not installed, or has no such model.
        """
        if not texts:
            return np.empty((0, 0), np.float32)
        return _unit(np.asarray(list(self._model.embed(list(texts))), np.float32), self.name)

    @cached_property
    def _model(self) -> Any:
        try:
            from fastembed import TextEmbedding  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RetrievalError(
                f"{self.name} needs fastembed, which is not installed: pip install fastembed"
            ) from error
        try:
            return TextEmbedding(self.model)
        except Exception as error:  # of the hub, the network, the runtime
            raise RetrievalError(f"{self.name} cannot be loaded ({error})") from error


def find_embedder(name: str = DEFAULT_EMBEDDER, *, base_url: str | None = None) -> Embedder:
    """Finds an embedder by its name: an embedded one, ``openai/MODEL``, ``fastembed/MODEL``.

    Raises:
        ModelNotFound: No embedded one is called so, or it is not installed.

    >>> find_embedder("openai/text-embedding-3-small").name
    'openai/text-embedding-3-small'
    """
    family, slash, model = name.partition("/")
    if slash and family == "openai":
        return OpenAIEmbedder(model, base_url=base_url)
    if slash and family == "fastembed":
        return FastEmbedEmbedder(model)
    return embedder_for(name)


def _unit(vectors: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not all(math.isfinite(length) and length > 0 for length in lengths[:, 0]):
        raise RetrievalError(f"{where} gave a vector without a direction (zeros, or no numbers)")
    rows: NDArray[np.float32] = (vectors / lengths).astype(np.float32, copy=False)
    return rows
