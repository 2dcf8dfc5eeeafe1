"""What a search may choose for a retrieval step, and a retriever that does as it was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, ConfigDict, Field

from ..errors import ProgramError
from ..retrievers.layout import Layout
from ..retrievers.passage import Passages
from ..retrievers.retriever import Retriever
from ..retrievers.search import Search
from .formats import Format
from .program import Manner, give_manner

__all__ = [
    "ChosenRetriever",
    "QueryWriting",
    "RetrievalChoice",
    "declared_retriever",
    "place_retriever",
    "retriever_at",
    "retrievers_of",
]

QueryWriting = Literal["as given", "rewritten", "expanded", "hypothetical"]
"""The module's own query; one that the LM writes of it; both, fused; or a passage that the LM makes up, whose
neighbours are looked for (`Gao et al. 2023, HyDE <https://arxiv.org/abs/2212.10496>`_)."""


class RetrievalChoice(BaseModel):
    """What a candidate chooses for one retrieval step.

    Attributes:
        search: Mode, k, fusion, diversity; None leaves the retriever's own.
        chunking: Another chunking of the same documents, by its name among the retriever's variants.
        query: How the query is written; all but ``as given`` ask the LM once.
        judged: Of so many passages the LM is asked, one by one, whether they help; those that do come first.
        order: Of the passages in the prompt.
        layout: How passages are delimited in the prompt.

    >>> RetrievalChoice(search=Search(mode="dense", k=3), query="expanded").label
    'dense, k 3, query expanded'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    search: Search | None = None
    chunking: str | None = None
    query: QueryWriting = "as given"
    judged: int = Field(default=0, ge=0)
    order: Literal["best first", "best last"] = "best first"
    layout: Layout | None = None

    @property
    def label(self) -> str:
        """In a few words."""
        parts = [
            *(_searched(self.search) if self.search else []),
            *([f"chunks {self.chunking}"] if self.chunking else []),
            *([f"query {self.query}"] if self.query != "as given" else []),
            *([f"{self.judged} judged"] if self.judged else []),
            *([self.order] if self.order != "best first" else []),
            *([self.layout] if self.layout else []),
        ]
        return ", ".join(parts) or "as declared"


def _searched(search: Search) -> list[str]:
    return [
        search.mode if search.mode != "hybrid" else f"hybrid by {search.fusion}",
        f"k {search.k}",
        *([f"diversity {search.diversity:g}"] if search.diversity else []),
        *([f"{search.reranked} reranked"] if search.reranked else []),
    ]


class _Rewrite(dspy.Signature):
    """Write a short search query that finds the text which answers the question."""

    question: str = dspy.InputField()
    search_query: str = dspy.OutputField()


class _Suppose(dspy.Signature):
    """Write one sentence that could be the answer to the question."""

    question: str = dspy.InputField()
    sentence: str = dspy.OutputField()


class _Judge(dspy.Signature):
    """Tell whether the text holds the answer to the question."""

    text: str = dspy.InputField()
    question: str = dspy.InputField()
    holds_answer: Literal["yes", "no"] = dspy.OutputField()


class ChosenRetriever:
    """A retriever that does as a candidate chose; a callable like the one that it stands for.

    What it asks the LM is asked of the one in ``dspy.settings``, so that it is counted like any other call.

    Args:
        retriever: The one that the module holds.
        choice: What was chosen.

    Raises:
        ProgramError: The choice names a chunking that the retriever does not have.
    """

    def __init__(self, retriever: Retriever, choice: RetrievalChoice) -> None:
        self.retriever, self.choice = retriever, choice
        chosen = retriever
        if choice.chunking is not None:
            if choice.chunking not in retriever.variants:
                raise ProgramError(
                    f"the candidate searches the chunking {choice.chunking!r}; the retriever has "
                    f"{', '.join(retriever.variants) or 'no other than its own'}"
                )
            chosen = retriever.variants[choice.chunking]
        if choice.search is not None:
            # What it is narrowed to is the app's affair, as rights are.
            chosen = chosen.with_search(**choice.search.model_dump(exclude={"where"}))
        self._chosen = chosen
        writing = {"as given": None, "hypothetical": _Suppose}.get(choice.query, _Rewrite)
        self._writer = None if writing is None else _asker(writing)
        self._judge = _asker(_Judge, hints=True)

    def __call__(self, query: str | Sequence[str], k: int | None = None) -> Passages:
        """Gives passages; a k that the module asks for gives way to one that was chosen."""
        wanted, written = self._k(k), self._writing(query)
        if written is not None:
            query = self._fitting(query, _asked(written, question=query))
        found = self._chosen(query, k=max(wanted, self.choice.judged))
        helps = [_asked(self._judge, **each) == "yes" for each in self._judging(query, found)]
        return self._arranged(found, helps, wanted)

    async def acall(self, query: str | Sequence[str], k: int | None = None) -> Passages:
        """As a call, in a task."""
        wanted, written = self._k(k), self._writing(query)
        if written is not None:
            query = self._fitting(query, await _aasked(written, question=query))
        found = await self._chosen.acall(query, k=max(wanted, self.choice.judged))
        helps = [await _aasked(self._judge, **each) == "yes" for each in self._judging(query, found)]
        return self._arranged(found, helps, wanted)

    def _k(self, k: int | None) -> int:
        chosen = self.choice.search
        return chosen.k if chosen is not None else k if k is not None else self._chosen.search.k

    def _writing(self, query: str | Sequence[str]) -> dspy.Predict | None:
        """Who writes the query; nobody where a module brings several of its own."""
        return self._writer if isinstance(query, str) else None

    def _judging(self, query: str | Sequence[str], found: Passages) -> list[dict[str, str]]:
        asked = query if isinstance(query, str) else next(iter(query), "")
        return [{"text": each.text, "question": asked} for each in found[: self.choice.judged]]

    def _fitting(self, query: str | Sequence[str], written: Any) -> str | Sequence[str]:
        """What is searched, whatever the LM wrote: nothing, or no text, leaves the query as it was."""
        text = written.strip() if isinstance(written, str) else ""
        if not text or not isinstance(query, str):
            return query
        return text if self.choice.query == "rewritten" else [query, text]

    def _arranged(self, found: Passages, helps: Sequence[bool], wanted: int) -> Passages:
        judged = sorted(zip(helps, found, strict=False), key=lambda pair: not pair[0])
        best = [*(passage for _, passage in judged), *found[len(helps) :]][:wanted]
        return Passages(best, self.choice.layout or found.layout, best_last=self.choice.order == "best last")

    def many(self, queries: Sequence[str], k: int | None = None) -> list[Passages]:
        """Gives the passages of each query."""
        return [self(query, k=k) for query in queries]

    def as_user(self, groups: Sequence[str]) -> ChosenRetriever:
        """Does the same for a caller with these rights."""
        return ChosenRetriever(self.retriever.as_user(groups), self.choice)

    @property
    def identity(self) -> str:
        """What is searched and how, as text."""
        return f"{self._chosen.identity} {self.choice.model_dump_json(exclude_none=True)}"

    def __deepcopy__(self, memo: Any) -> ChosenRetriever:
        return self


def _asker(signature: type[dspy.Signature], *, hints: bool = False) -> dspy.Predict:
    return give_manner(dspy.Predict(signature), Manner(format=Format(kind="compact", hints=hints)))


def _asked(predictor: dspy.Predict, **inputs: Any) -> Any:
    """What an LM says; None where it cannot be read: a step that helps must not end the program."""
    try:
        return _only(predictor(**inputs))
    except AdapterParseError:
        return None


async def _aasked(predictor: dspy.Predict, **inputs: Any) -> Any:
    try:
        return _only(await predictor.acall(**inputs))
    except AdapterParseError:
        return None


def _only(prediction: dspy.Prediction) -> Any:
    return next(iter(prediction.values()), None)


def retrievers_of(module: dspy.Module) -> dict[str, Retriever | ChosenRetriever]:
    """Gives the retrievers that a module, or one inside it, holds, by their path: ``retriever``, ``hops[0].retriever``.

    Those held in an attribute, a list, a tuple or a dict are found; one in a function's closure is not.
    """
    return {path: found for path, found, _, _ in _walk(module, "", set())}


def declared_retriever(retriever: Retriever | ChosenRetriever) -> Retriever:
    """Gives the one that the user's module held before anything was chosen."""
    return retriever.retriever if isinstance(retriever, ChosenRetriever) else retriever


def retriever_at(module: dspy.Module, path: str) -> Retriever | ChosenRetriever:
    """Gives the retriever at a path.

    Raises:
        ProgramError: The module holds none there.
    """
    return _site(module, path)[0]


def place_retriever(module: dspy.Module, path: str, retriever: Retriever | ChosenRetriever) -> None:
    """Puts another retriever where one is.

    Raises:
        ProgramError: The module holds none at that path, or holds it in a tuple.
    """
    _, holder, key = _site(module, path)
    if isinstance(holder, tuple):
        raise ProgramError(f"the retriever {path} is in a tuple: put it into a list, or an attribute of its own")
    if isinstance(holder, dict | list):
        holder[key] = retriever
    else:
        setattr(holder, key, retriever)


def _site(module: dspy.Module, path: str) -> tuple[Retriever | ChosenRetriever, Any, Any]:
    sites = {at: site for at, *site in _walk(module, "", set())}
    if path not in sites:
        known = ", ".join(sites)
        raise ProgramError(f"the candidate chooses for the retriever {path}, and the module has {known or 'none'}")
    found, holder, key = sites[path]
    return found, holder, key


def _walk(holder: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Retriever | ChosenRetriever, Any, Any]]:
    if id(holder) in seen:
        return
    seen.add(id(holder))
    members: Mapping[Any, Any]
    if isinstance(holder, dspy.Module):
        members = vars(holder)
    elif isinstance(holder, list | tuple):
        members = dict(enumerate(holder))
    elif isinstance(holder, dict):
        members = holder
    else:
        return
    for key, value in members.items():
        inside = f"{path}.{key}".lstrip(".") if isinstance(holder, dspy.Module) else f"{path}[{key!r}]"
        if isinstance(value, Retriever | ChosenRetriever):
            yield inside, value, holder, key
        else:
            yield from _walk(value, inside, seen)
