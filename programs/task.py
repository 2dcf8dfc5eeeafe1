"""The task: what is wanted, on which examples, and how it is scored."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, get_args, get_type_hints

import dspy

from ..errors import DataError, ProgramError
from .examples import example_hash, read_examples
from .fields import choices_of
from .metrics import FieldMetric, metric_identity
from .program import Program
from .qrels import Qrel, qrels
from .splits import FRACTIONS, Splits, split

__all__ = ["Task"]


class Task:
    """Declares what is searched.

    Args:
        program: Any ``dspy.Module``; it is never changed.
        examples: A path, a list of ``dspy.Example`` or dict, a DataFrame or a Dataset: see
            `progspace.programs.examples.read_examples`.
        inputs: The fields that the program is given; may be left out where examples have them set, or where the program
            has a single predictor.
        metric: One of ``ps.metrics``, or any callable of DSPy's contract: ``(example, prediction, trace=None)`` gives a
            bool, a number or a ``dspy.Prediction(score=…, feedback=…)``. A score is not below 0, which is what
            a program that fails scores.
        name: For people and files.
        test: A sealed split of the user's own, in any form that ``examples`` may have; ``()`` for none at all, where
            the test is kept elsewhere.
        seed: Of the split.
        fractions: Of train, dev and test, about. Demonstrations and training live on train: what is to be trained wants
            more of it.
        query: Where the program looks things up: the input that it looks up; the first of ``inputs`` by default.
        relevant: The examples' field that names the passages which answer them, by source or id, where there is one.
            Retrieval is then ranked without any LM call. It is never shown to the program.

    Raises:
        DataError: Examples are not as they must be.
        ProgramError: The program cannot be searched.

    >>> from progspace.programs import metrics
    >>> rows = [{"text": f"review {i}", "label": "so so"} for i in range(50)]
    >>> Task(program=dspy.Predict("text -> label"), examples=rows, metric=metrics.exact_match("label"), name="reviews")
    Task('reviews': 13 train, 20 dev, 17 test; exact_match(label))
    """

    def __init__(
        self,
        program: dspy.Module,
        examples: Any,
        inputs: Sequence[str] | None = None,
        *,
        metric: Callable[..., Any],
        name: str | None = None,
        test: Any = None,
        seed: int = 0,
        fractions: tuple[float, float, float] = FRACTIONS,
        query: str | None = None,
        relevant: str | None = None,
    ) -> None:
        self.program = _checked(program)
        if not callable(metric):
            raise ProgramError(
                f"the metric is a {type(metric).__name__}, and must be callable: ps.metrics.…, or your own"
            )
        self.metric, self.metric_identity = metric, metric_identity(metric)
        self.seed = seed
        self.inputs = _inputs(program, examples, inputs)
        self.name = name or _slug(type(program).__name__)
        self._label = metric.field if isinstance(metric, FieldMetric) else None  # another metric may do without
        read = functools.partial(self.read, labelled=True)
        none = isinstance(test, tuple) and not test
        self._fractions, self._sealed_apart = fractions, test is not None
        self.splits: Splits = self._split(read(examples), None if test is None else [] if none else read(test))
        self._fields = {
            name
            for part in (self.splits.train, self.splits.dev, self.splits.test)
            for example in part
            for name in example
        }
        self.unsealed: tuple[str, ...] = ()
        self.query, self.relevant = query or self.inputs[0], relevant
        for field in (query, relevant):
            if field is not None and not any(field in example for example in (*self.train, *self.dev)):
                raise DataError("no example has it", field=field)

    def _split(self, examples: list[dspy.Example], test: list[dspy.Example] | None) -> Splits:
        return split(examples, seed=self.seed, fractions=self._fractions, test=test)

    def read(self, examples: Any, *, labelled: bool = False) -> list[dspy.Example]:
        """Reads further examples, in any form that ``examples`` may have, and checks them as its own.

        Args:
            examples: What is read.
            labelled: Whether each must have the label that the metric compares, as the task's own must, so that it can
                be scored.

        Raises:
            DataError: They are not as they must be.
        """
        label = self._label if labelled else None
        return read_examples(
            examples, inputs=self.inputs, outputs=_output_types(self.program), label=label,
            nullable=_nullable(self.program),
        )  # fmt: skip

    def given(self, program: dspy.Module) -> tuple[str, ...] | None:
        """Gives the inputs, where those are other than what a program takes of the examples' fields; None where not.

        Its scores are then others than where it is given what it takes: without a field that gives the label away, say.
        """
        return None if _taken(program) & self._fields == set(self.inputs) else self.inputs

    def grown(self, examples: Sequence[dspy.Example]) -> Task:
        """Gives the same task with further examples; none of its own changes sides.

        Examples join train and dev, and the sealed test where that was not brought by the user.
        """
        known = [*self.train, *self.dev, *([] if self._sealed_apart else self.splits.test), *examples]
        return Task(
            self.program, known, self.inputs, metric=self.metric, name=self.name, seed=self.seed,
            test=(list(self.splits.test) or ()) if self._sealed_apart else None, fractions=self._fractions,
            query=self.query, relevant=self.relevant,
        )  # fmt: skip

    @property
    def train(self) -> tuple[dspy.Example, ...]:
        """For demonstrations and proposals."""
        return self.splits.train

    @property
    def dev(self) -> tuple[dspy.Example, ...]:
        """For the race."""
        return self.splits.dev

    def qrels(self, most: int | None = None) -> list[Qrel]:
        """Which passages answer the train examples, as far as ``relevant`` or their labels tell.

        Args:
            most: Examples at most.

        Raises:
            DataError: A field does not hold text.
        """
        free = [name for name, kind in _output_types(self.program).items() if not choices_of(kind)]
        labels = dict.fromkeys([*free, *filter(None, [getattr(self.metric, "field", None)])])
        return qrels(self.train[:most], query=self.query, relevant=self.relevant, labels=list(labels))

    @property
    def outputs(self) -> dict[str, Any]:
        """Types of the program's outputs, by field."""
        return _output_types(self.program)

    @property
    def test_size(self) -> int:
        """How many examples are sealed."""
        return len(self.splits.test)

    def unseal_test(self, reason: str) -> tuple[dspy.Example, ...]:
        """Gives the sealed examples, and remembers why they were read in ``unsealed``.

        What is chosen by looking at them is no longer proven by them.
        """
        self.unsealed = (*self.unsealed, reason)
        return self.splits.test

    @property
    def identity(self) -> str:
        """A hash of inputs, metric, and every split's examples."""
        content = {
            "inputs": sorted(self.inputs),
            "metric": self.metric_identity,
            "splits": [
                sorted(example_hash(example) for example in part)
                for part in (self.splits.train, self.splits.dev, self.splits.test)
            ],
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} train, {len(self.dev)} dev, {self.test_size} test"
        return f"Task({self.name!r}: {sizes}; {self.metric_identity})"


def _checked(program: Any) -> dspy.Module:
    if isinstance(program, type):
        if issubclass(program, dspy.Signature):
            raise ProgramError(f"{program.__name__} is a signature: give a module, dspy.Predict({program.__name__})")
        raise ProgramError(f"{program.__name__} is a class: give an instance, {program.__name__}(…)")
    if isinstance(program, str):
        raise ProgramError(f"{program!r} is text: give a module, dspy.Predict({program!r})")
    if not isinstance(program, dspy.Module):
        raise ProgramError(f"the program is a {type(program).__name__}, and must be a dspy.Module")
    if not program.predictors():
        raise ProgramError(f"{type(program).__name__} has no predictor (dspy.Predict), so there is nothing to search")
    return program


def _inputs(program: dspy.Module, examples: Any, inputs: Sequence[str] | None) -> tuple[str, ...]:
    signatures = [predictor.signature for predictor in program.predictors()]
    if inputs is None:
        first = examples[0] if isinstance(examples, list) and examples else None
        if isinstance(first, dspy.Example) and first._input_keys:
            return tuple(sorted(first._input_keys))
        if len(signatures) != 1:
            raise DataError("the program has several predictors: say which fields it is given, Task(…, inputs=[…])")
        return tuple(signatures[0].input_fields)
    if isinstance(inputs, str) or not inputs:
        raise DataError(f"inputs must be a list of field names, not {inputs!r}")
    if len(signatures) == 1 and isinstance(program, dspy.Predict | dspy.ChainOfThought):
        known = signatures[0].input_fields
        for name in inputs:
            if name not in known:
                raise DataError(f"the signature has no such input; it has {', '.join(known)}", field=name)
    return tuple(inputs)


def _taken(program: dspy.Module) -> set[str]:
    """The parameters that a program's ``forward`` names; where it takes any, what its predictors do not make."""
    module = program.module if isinstance(program, Program) else program
    # Of the class: DSPy warns of whoever looks at an instance's.
    parameters = inspect.signature(getattr(type(module), "forward", type(module).__call__)).parameters.values()
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if all(each.kind is not each.VAR_KEYWORD for each in parameters):
        return named
    signatures = [predictor.signature for predictor in module.predictors()]
    made = {name for signature in signatures for name in signature.output_fields}
    return named | {name for signature in signatures for name in signature.input_fields} - made


def _output_types(program: dspy.Module) -> dict[str, Any]:
    """Types of the program's outputs; of those that two predictors type differently, none."""
    types: dict[str, list[Any]] = {}
    for predictor in program.predictors():
        for name, info in predictor.signature.output_fields.items():
            types.setdefault(name, []).append(info.annotation)
    return {name: found[0] for name, found in types.items() if all(each == found[0] for each in found)}


def _nullable(program: dspy.Module) -> set[str]:
    """Which inputs may be None: those that a predictor's signature, or the module's ``forward``, types so."""
    signatures = [predictor.signature for predictor in program.predictors()]
    types = [(name, info.annotation) for each in signatures for name, info in each.input_fields.items()]
    with suppress(NameError, TypeError):  # of an annotation that cannot be read; or there is no forward
        types += get_type_hints(getattr(type(program), "forward", None)).items()
    return {name for name, kind in types if kind is Any or any(part in (None, type(None)) for part in get_args(kind))}


def _slug(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
