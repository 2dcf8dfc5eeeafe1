"""Train, dev and test: decided once, by each example's content and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import dspy

from ..errors import DataError
from .examples import deduplicate, example_hash, inputs_hash

__all__ = ["FRACTIONS", "NO_TEST", "Splits", "kept_back", "split", "stratified"]

NO_TEST = (
    "No test was sealed: there are only the scores of dev, on which the winner was chosen. What it is worth can be "
    "told by examples that you kept back yourself."
)
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Splits:
    """Examples by what they are for.

    Attributes:
        train: Demonstrations and proposals are made of them.
        dev: Candidates race on them.
        test: Sealed until the final report.
        notes: What a person should know of how they came about.
    """

    train: tuple[dspy.Example, ...]
    dev: tuple[dspy.Example, ...]
    test: tuple[dspy.Example, ...]
    notes: tuple[str, ...] = ()


def _uniform(seed: int, purpose: str, key: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{key}".encode()).digest()[:8], "big") / 2**64


def kept_back(examples: Sequence[dspy.Example], *, seed: int) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Gives examples that may join a task, and those that are kept back to judge by, by a hash of their inputs.

    >>> rows = [dspy.Example(text=str(i)).with_inputs("text") for i in range(100)]
    >>> [len(part) for part in kept_back(rows, seed=0)]
    [48, 52]
    """
    parts: tuple[list[dspy.Example], list[dspy.Example]] = ([], [])
    for example in examples:
        parts[_uniform(seed, "kept back", inputs_hash(example)) < 0.5].append(example)
    return parts


FRACTIONS = (0.3, 0.4, 0.3)


def split(
    examples: Sequence[dspy.Example],
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    test: Sequence[dspy.Example] | None = None,
) -> Splits:
    """Splits examples by a hash of their inputs and the seed.

    So an example's split depends on nothing else: rows that are added later move no other row, and equal inputs never
    stand on two sides. Exact duplicates are dropped.

    Args:
        examples: With inputs set.
        seed: Another one splits otherwise.
        fractions: Of train, dev and test, about.
        test: A test split of the user's own. The examples are then split into train and dev alone (by default two to
            three), and those whose inputs stand in the test are dropped. An empty one is no test: nothing is sealed.

    Raises:
        DataError: A split is empty, or fractions are no shares.

    >>> rows = [dspy.Example(text=str(i)).with_inputs("text") for i in range(100)]
    >>> splits = split(rows, seed=0)
    >>> len(splits.train) + len(splits.dev) + len(splits.test)
    100
    """
    if not all(0 < share < 1 for share in fractions):
        raise DataError(f"the fractions of train, dev and test are {fractions}, and must each lie between 0 and 1")
    notes = []
    kept, duplicates = deduplicate(examples)
    if duplicates:
        notes.append(f"{duplicates} exact duplicates among the examples were dropped.")
    sealed: list[dspy.Example] | None = None
    if test is not None:
        fractions = (0.4, 0.6, 0.0) if fractions == FRACTIONS else (*fractions[:2], 0.0)
        sealed, duplicates = deduplicate(test)
        if duplicates:
            notes.append(f"{duplicates} exact duplicates in the test split were dropped.")
        known = {inputs_hash(example) for example in sealed}
        apart = [example for example in kept if inputs_hash(example) not in known]
        if len(apart) < len(kept):
            notes.append(f"{len(kept) - len(apart)} examples were dropped, for their inputs stand in the test split.")
        kept = apart
        if not sealed:
            notes.append(NO_TEST)
    parts: tuple[list[dspy.Example], ...] = ([], [], [])
    for example in sorted(kept, key=lambda one: (_uniform(seed, "order", example_hash(one)), example_hash(one))):
        at = _uniform(seed, "split", inputs_hash(example)) * sum(fractions)
        parts[0 if at < fractions[0] else 1 if at < fractions[0] + fractions[1] else 2].append(example)
    splits = Splits(tuple(parts[0]), tuple(parts[1]), tuple(parts[2] if sealed is None else sealed), tuple(notes))
    for name in ("train", "dev") if sealed == [] else ("train", "dev", "test"):
        if not getattr(splits, name):
            raise DataError(
                f"the {name} split is empty: there are {len(kept)} different examples, and at least {_ENOUGH} are "
                "wanted; give more"
            )
    return splits


def stratified(examples: Sequence[dspy.Example], key: Callable[[dspy.Example], Hashable]) -> list[dspy.Example]:
    """Orders examples so that every beginning holds the classes in their proportion, as nearly as can be.

    Args:
        examples: Within a class their order stays.
        key: Gives an example's class.

    >>> rows = [dspy.Example(label=label) for label in "aaaabb"]
    >>> "".join(example.label for example in stratified(rows, lambda example: example.label))
    'abaaba'
    """
    classes: dict[Hashable, list[dspy.Example]] = {}
    for example in examples:
        classes.setdefault(key(example), []).append(example)
    placed = [
        ((rank + 0.5) / len(members), number, example)
        for number, members in enumerate(classes.values())
        for rank, example in enumerate(members)
    ]
    return [example for *_, example in sorted(placed, key=lambda place: place[:2])]
