"""What a training will take, told before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .examples import TrainingExample

__all__ = ["Cost", "about_tokens", "estimate"]

# What a chat template adds to each message, and to each conversation; as OpenAI's cookbook counts for its own models
# (https://cookbook.openai.com/examples/chat_finetuning_data_prep). Others add about as much.
_TOKENS_A_MESSAGE = 3
_TOKENS_A_CONVERSATION = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training will take, about; told before anything is spent.

    Attributes:
        examples: How many there are.
        tokens: Of all of them, prompts and answers, in one epoch.
        epochs: How often each is seen.
        usd: Money; None where the price is not known, 0 on this machine.
        seconds: On this machine; None where it is another's.

    >>> print(Cost(examples=200, tokens=50_000, epochs=3, usd=0.45))
    200 examples × 3 epochs = 150,000 tokens, about 0.45 USD
    """

    examples: int
    tokens: int
    epochs: int
    usd: float | None
    seconds: float | None = None

    @property
    def trained_tokens(self) -> int:
        """Tokens that are trained on, and billed for: those of all epochs."""
        return self.tokens * self.epochs

    def __str__(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        usd = "at a price that is not known" if self.usd is None else f"about {self.usd:.2f} USD"
        price = usd if self.seconds is None else f"about {self.seconds / 60:.1f} min on this machine"
        return f"{self.examples:,} examples × {epochs} = {self.trained_tokens:,} tokens, {price}"


def estimate(
    examples: Iterable[TrainingExample],
    count_tokens: Callable[[str], int],
    *,
    epochs: int,
    usd_per_million: float | None = None,
) -> Cost:
    """Estimates what training takes.

    Args:
        examples: To train on; those for validation cost nothing where training is billed by trained tokens.
        count_tokens: Gives the number of tokens of a text.
        epochs: How often each example is seen.
        usd_per_million: The price of a million trained tokens, where it is known.

    >>> from progspace.lms.training.examples import TrainingExample
    >>> rows = [TrainingExample((("user", "2 + 2?"), ("assistant", "4")), templated=False)]
    >>> estimate(rows, lambda text: len(text.split()), epochs=2, usd_per_million=3.0)
    Cost(examples=1, tokens=4, epochs=2, usd=2.4e-05, seconds=None)
    """
    if epochs < 1:
        raise ValueError(f"estimate(epochs={epochs}): must be at least 1")
    count = tokens = 0
    for example in examples:
        count += 1
        tokens += sum(count_tokens(content) for _, content in example.messages)
        if example.templated:
            tokens += _TOKENS_A_MESSAGE * len(example.messages) + _TOKENS_A_CONVERSATION
    usd = None if usd_per_million is None else tokens * epochs * usd_per_million / 1e6
    return Cost(examples=count, tokens=tokens, epochs=epochs, usd=usd)


def about_tokens(text: str) -> int:
    """Estimates the tokens of a text where the model's tokenizer is not at hand: one for four bytes.

    >>> about_tokens("The capital of France is Paris.")
    8
    """
    return -(-len(text.encode()) // 4)
