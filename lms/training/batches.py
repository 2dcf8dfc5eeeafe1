"""Examples as tokens, and which of them are learnt from together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...errors import DataError
from .examples import TrainingExample

__all__ = ["Encoded", "Tokenizes", "encoded", "epoch_batches", "fits", "micro_batches"]


class Tokenizes(Protocol):
    """What makes tokens of an example: the embedded engine, so that training sees what answering will see."""

    @property
    def context_length(self) -> int:
        """The longest prompt and answer together, in tokens."""

    def encode(self, text: str) -> list[int]:
        """Gives the tokens of a text, with no token added."""

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Writes chat messages as the model reads them, up to where the assistant begins."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as tokens: the prompt, and the answer with the token that ends it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def length(self) -> int:
        """How many tokens go through the model: the last one is only predicted."""
        return len(self.prompt) + len(self.answer) - 1


def encoded(examples: Sequence[TrainingExample], tokenizer: Tokenizes, end: int) -> tuple[Encoded, ...]:
    """Makes tokens of examples, as `LocalEngine` does with a prompt of the same messages.

    Args:
        examples: To train on.
        tokenizer: The embedded engine.
        end: The token by which the model says that its answer is whole.

    Raises:
        DataError: An example is longer than the model's context; with its row, counted from 1.
    """
    made = []
    for row, example in enumerate(examples, 1):
        one = _encode(example, tokenizer, end)
        if not one.prompt:
            raise DataError("the prompt is empty", row=row)
        if not _fits(one, tokenizer):
            raise DataError(
                f"the prompt and its answer have {one.length:,} tokens or more, and the model reads "
                f"{tokenizer.context_length:,}: shorten the example or leave it out",
                row=row,
            )
        made.append(one)
    return tuple(made)


def fits(example: TrainingExample, tokenizer: Tokenizes, end: int) -> bool:
    """Tells whether an example is no longer than the model's context."""
    return _fits(_encode(example, tokenizer, end), tokenizer)


def _encode(example: TrainingExample, tokenizer: Tokenizes, end: int) -> Encoded:
    messages = [{"role": role, "content": content} for role, content in example.prompt]
    text = tokenizer.render(messages) if example.templated else "".join(each["content"] for each in messages)
    return Encoded(tuple(tokenizer.encode(text)), (*tokenizer.encode(example.answer), end))


def _fits(one: Encoded, tokenizer: Tokenizes) -> bool:
    # The tokenizer itself cuts at the context's end, so one that is exactly full may have been longer.
    return max(len(one.prompt), len(one.answer), one.length) < tokenizer.context_length


def epoch_batches(count: int, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Gives the order of an epoch: the examples of each step, by their places.

    >>> epoch_batches(5, 2, seed=0, epoch=0) == epoch_batches(5, 2, seed=0, epoch=0)
    True
    >>> sorted(place for step in epoch_batches(5, 2, seed=0, epoch=1) for place in step)
    [0, 1, 2, 3, 4]
    """
    order = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311 — an order, not a secret
    return [order[start : start + batch] for start in range(0, count, batch)]


def micro_batches(examples: Sequence[Encoded], tokens: int) -> list[list[Encoded]]:
    """Groups examples of like length, so that little is filled up, and so that each group fits the memory.

    Args:
        examples: Of one step.
        tokens: The most in one group, filling included; an example that is longer stands alone.

    >>> short, long = Encoded((1, 2), (3,)), Encoded((1,) * 50, (3,))
    >>> [len(group) for group in micro_batches([short, long, short], 64)]
    [1, 2]
    """
    groups: list[list[Encoded]] = []
    for example in sorted(examples, key=lambda example: -example.length):
        if groups and groups[-1][0].length * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(example)
        else:
            groups.append([example])
    return groups
