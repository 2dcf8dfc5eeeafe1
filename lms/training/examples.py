"""Conversations to train on, in OpenAI's chat format, and how they are chosen."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import DataError
from ..files import replace_text
from .cost import Cost, estimate

__all__ = [
    "Cost",
    "TrainingExample",
    "as_jsonl",
    "content_hash",
    "deduplicated",
    "estimate",
    "read_jsonl",
    "split",
    "write_jsonl",
]

_ROLES = ("system", "user", "assistant")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One conversation, and what the model shall answer at its end.

    Attributes:
        messages: (role, content) in order; the last one is the assistant's, and the loss is on it alone.
        templated: Whether the model's chat template is laid around the messages. False: their contents are joined as
            they are, for completion-like prompts.

    Raises:
        DataError: A role is unknown, or the last message is not an answer of the assistant's.

    >>> example = TrainingExample((("user", "The capital of France?"), ("assistant", "Paris")))
    >>> example.prompt, example.answer
    ((('user', 'The capital of France?'),), 'Paris')
    """

    messages: tuple[tuple[str, str], ...]
    templated: bool = True

    def __post_init__(self) -> None:
        if fault := _fault(self.messages):
            field, message = fault
            raise DataError(message, field=field)

    @property
    def prompt(self) -> tuple[tuple[str, str], ...]:
        """The messages before the answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """What the model shall answer."""
        return self.messages[-1][1]


def _fault(messages: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    for number, (role, content) in enumerate(messages):
        if role not in _ROLES:
            return f"messages.{number}.role", f"is {role!r}, and must be one of {', '.join(_ROLES)}"
        try:
            content.encode()
        except UnicodeEncodeError as error:
            return f"messages.{number}.content", f"half a character at {error.start}: the text cannot be written"
    if len(messages) < 2:
        return "messages", "holds no question and answer: at least one message before the assistant's is wanted"
    role, content = messages[-1]
    if role != "assistant":
        return "messages", f"the last message is by the {role}, and must be the assistant's answer"
    if not content.strip():
        return f"messages.{len(messages) - 1}.content", "the answer is empty, so there is nothing to learn"
    return None


class _Message(BaseModel):
    """A message as a line of the file holds it; what would change the loss (``weight``, tools) is refused, not lost."""

    model_config = ConfigDict(extra="forbid")

    role: str
    content: str


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    messages: list[_Message]
    templated: bool = True


def as_jsonl(examples: Iterable[TrainingExample]) -> str:
    """Gives examples in OpenAI's chat format, one JSON object a line; ``templated`` is told where it is False.

    >>> print(as_jsonl([TrainingExample((("user", "2 + 2?"), ("assistant", "4")))]), end="")
    {"messages":[{"role":"user","content":"2 + 2?"},{"role":"assistant","content":"4"}]}
    """
    lines = []
    for example in examples:
        row: dict[str, object] = {"messages": [{"role": role, "content": text} for role, text in example.messages]}
        if not example.templated:
            row["templated"] = False
        lines.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(lines)


def write_jsonl(examples: Iterable[TrainingExample], path: str | os.PathLike[str]) -> Path:
    """Writes examples as `as_jsonl` gives them; a file of that name is replaced as a whole or not at all.

    Args:
        examples: In the order in which they shall stand.
        path: Of the file; its folder must be there.

    Raises:
        DataError: There are none.
        OSError: The disk is full, the folder is missing, …

    >>> import tempfile
    >>> example = TrainingExample((("user", "2 + 2?"), ("assistant", "4")))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_jsonl([example], Path(folder, "train.jsonl"))
    ...     read_jsonl(file) == (example,)
    True
    """
    text = as_jsonl(examples)
    if not text:
        raise DataError("there are no examples to write", file=str(path))
    return replace_text(path, text)


def read_jsonl(path: str | os.PathLike[str]) -> tuple[TrainingExample, ...]:
    """Reads examples in OpenAI's chat format, one JSON object a line; empty lines are passed over.

    Raises:
        DataError: With the file, the row and the field of the first fault, and how many more there are.

    >>> read_jsonl("nowhere.jsonl")
    Traceback (most recent call last):
    progspace.errors.DataError: nowhere.jsonl: there is no such file
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("there is no such file", file=name) from None
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8: byte {error.start}; save it as UTF-8", file=name) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=name) from None
    examples, faults = [], []
    # Not splitlines: it would also break at characters that JSON allows within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(_example(line))
        except DataError as error:
            faults.append((number, error.field, str(error).removeprefix(f"field {error.field!r}: ")))
    if faults:
        row, field, message = faults[0]
        others = [str(number) for number, *_ in faults[1 : 1 + _SHOWN]]
        if others:
            message += f"; there are faults also in row {', '.join(others)}"
            message += ", …" if len(faults) > 1 + _SHOWN else ""
        raise DataError(message, file=name, row=row, field=field)
    if not examples:
        raise DataError("holds no examples", file=name)
    return tuple(examples)


def _example(line: str) -> TrainingExample:
    try:
        row = _Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        raise DataError(first["msg"][:1].lower() + first["msg"][1:], field=field) from None
    return TrainingExample(tuple((one.role, one.content) for one in row.messages), row.templated)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def content_hash(examples: Iterable[TrainingExample]) -> str:
    """Gives the identity of examples in their order: 16 hexadecimal digits.

    >>> one = TrainingExample((("user", "2 + 2?"), ("assistant", "4")))
    >>> content_hash([one]) == content_hash([one]), content_hash([one]) == content_hash([one, one])
    (True, False)
    """
    return _digest(*[(example.messages, example.templated) for example in examples])[:16]


def deduplicated(examples: Iterable[TrainingExample]) -> tuple[TrainingExample, ...]:
    """Drops examples that stand there already; the first of equal ones stays, in its place.

    >>> one = TrainingExample((("user", "2 + 2?"), ("assistant", "4")))
    >>> len(deduplicated([one, one]))
    1
    """
    return tuple(dict.fromkeys(examples))


def split(
    examples: Sequence[TrainingExample], seed: int, share: float = 0.1
) -> tuple[tuple[TrainingExample, ...], tuple[TrainingExample, ...]]:
    """Splits examples into those to train on and those that tell when to stop, by a hash of the prompt and the seed.

    Equal prompts stand on one side, whatever their answers are. Both sides keep the order.

    Args:
        examples: At least two different prompts.
        seed: Another one splits otherwise.
        share: Of the examples, about, that are for validation; 0 for none. At least one prompt is, and one is not.

    Raises:
        DataError: There are too few different prompts for two sides.

    >>> rows = [TrainingExample((("user", str(i)), ("assistant", "yes"))) for i in range(40)]
    >>> train, validation = split(rows, seed=0)
    >>> len(train), len(validation)
    (36, 4)
    """
    if not 0 <= share < 1:
        raise ValueError(f"split(share={share}): must be at least 0 and below 1")
    if not share:
        return tuple(examples), ()
    digests = [_digest(seed, example.prompt) for example in examples]
    prompts = Counter(digests)
    if len(prompts) < 2:
        raise DataError(
            f"{len(prompts)} different prompts cannot be split into training and validation: give more examples, or "
            "keep none for validation (share=0)"
        )
    wanted, chosen, count = max(1, round(share * len(examples))), set[str](), 0
    for digest in sorted(prompts)[:-1]:
        if count >= wanted:
            break
        chosen.add(digest)
        count += prompts[digest]
    sides: tuple[list[TrainingExample], list[TrainingExample]] = ([], [])
    for digest, example in zip(digests, examples, strict=True):
        sides[digest in chosen].append(example)
    return tuple(sides[0]), tuple(sides[1])
