"""Proposes instructions that an LM writes, from the data, from what went wrong, and from what was tried before."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import dspy

from ...errors import BudgetExceeded
from ...programs.candidate import Candidate
from ...programs.examples import plain_values
from ...programs.fields import choices_of, type_hint, write_field
from .base import SearchState
from .novelty import novel, retold
from .pools import runs_on_train
from .written import is_usable, read_instruction

__all__ = ["WriterProposer"]

_TOKENS = 200  # that an instruction may take
_SHOWN = 240  # characters of a value
_TRIED = 8
_CASES = 3  # examples, or failures, in a prompt
_LOG = logging.getLogger(__name__)

_TIPS = (
    "Write a better instruction for this task.",
    "Write a better instruction for this task, in one short sentence.",
    "Write a better instruction that says what to look at.",
    "Write a better instruction that says how to tell cases apart that are easily confused.",
    "Write a better instruction in plain words, as one would tell a colleague.",
    "Write a better instruction of several sentences, with all that one must know for this task.",
    "Write a better instruction that says first what part the model plays.",
)
_COMPARE = (
    "See what the better ones have in common. Write one more instruction, unlike any of these, that will score higher."
)
_REFLECT = (
    "Find out what the instruction should have told the model, so that it holds for other cases of the kind as well. "
    "Write the whole improved instruction."
)
_FORM = "Put nothing but the instruction between <instruction> and </instruction>, and quote no example in it."
_GUIDANCE = " ".join([*_TIPS, _COMPARE, _REFLECT, _FORM])


class WriterProposer:
    """Lets an LM write new instructions for one predictor of the incumbent at a time.

    Three moves take turns. *Data*: it reads the signature, a summary of the train examples and some of them, with a
    hint on style (as MIPROv2 does, `Opsahl-Ong et al. 2024 <https://arxiv.org/abs/2406.11695>`_). *Scores*: it reads
    the instructions so far with their scores, the best last (OPRO, `Yang et al. 2023
    <https://arxiv.org/abs/2309.03409>`_). *Failures*: it reads on which train examples the incumbent went wrong, and
    what the metric said of it (the reflection of GEPA, `Agrawal et al. 2025 <https://arxiv.org/abs/2507.19457>`_).

    An instruction is one call. What cannot be read, repeats the prompt or an example, or says the same again and again
    is dropped unmeasured: a small LM that cannot write costs its calls, and no cells.

    Args:
        looked_at: Train examples that the incumbent is run on to find failures: those that others run it on, too.
    """

    name = "writer"

    def __init__(self, looked_at: int = 16) -> None:
        self.looked_at = looked_at

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many instructions that were not measured yet, for as many calls of the writer.

        Raises:
            BudgetExceeded: Nothing is left to spend, and nothing was written.
        """
        if "writer" not in state.space.instructions:
            return []
        generator = random.Random(state.seed)  # noqa: S311 — reproducible, not secret
        names = list(state.space.searched(state.task.program))
        generator.shuffle(names)
        moves = generator.sample((self._from_data, self._from_scores, self._from_failures), 3)
        found: list[Candidate] = []
        try:
            for turn in range(count):
                name = names[turn % len(names)]
                desk = _Desk.of(state, name)
                prompt = moves[turn % 3](desk, state, generator) or self._from_data(desk, state, generator)
                instruction = read_instruction(_write(state.writer, prompt.text))
                if instruction and is_usable(instruction, task=desk.about, guidance=_GUIDANCE, data=prompt.data):
                    whom = "" if len(names) == 1 else f"{name} "
                    told = retold(
                        state.incumbent.candidate.origin, "instruction", f"{whom}written from {prompt.source}"
                    )
                    found.append(
                        state.incumbent.candidate.with_choice(predictor=name, instruction=instruction, origin=told)
                    )
        except BudgetExceeded:
            if not found:
                raise
        except Exception as fault:  # whatever a writer does, the search goes on without it
            _LOG.warning("the writer of instructions gave up: %s", fault)
        return novel(found, state, count)

    def _from_data(self, desk: _Desk, state: SearchState, generator: random.Random) -> _Prompt:
        train = state.task.train
        rows = [_row(each, desk.fields) for each in generator.sample(train, min(_CASES, len(train)))]
        text = f"{desk.task}\n{_summary(desk.signature, train)}\n\n{_blocks(rows)}\n\n{desk.present}"
        return _Prompt(f"{text}\n\n{generator.choice(_TIPS)} {_FORM}", "the data", _values(rows))

    def _from_scores(self, desk: _Desk, state: SearchState, generator: random.Random) -> _Prompt | None:
        scores: dict[str, float] = {}
        for standing in state.standings:
            if standing.scores:
                tried = standing.candidate.predictors[desk.name].instruction or desk.declared
                scores[tried] = max(standing.mean, scores.get(tried, standing.mean))
        if len(scores) < 3:
            return None
        best = sorted(scores.items(), key=lambda each: each[1])[-_TRIED:]
        told = "\n".join(f"{100 * score:.0f}: {_short(tried)}" for tried, score in best)
        row = _row(generator.choice(state.task.train), desk.fields)
        text = f"{desk.task}\n\n{_blocks([row])}\n\nInstructions that were tried, each with its score of 100:\n{told}"
        return _Prompt(f"{text}\n\n{_COMPARE} {_FORM}", "scores", _values([row]))

    def _from_failures(self, desk: _Desk, state: SearchState, generator: random.Random) -> _Prompt | None:
        program = state.incumbent.candidate.apply(state.task.program, lms=state.lms)
        failed = [
            (run, example)
            for runs in runs_on_train(program, state, most=self.looked_at)
            for example, run in runs
            if run.cell.score is not None and run.cell.score < 1
        ]
        generator.shuffle(failed)
        cases = []
        for run, example in sorted(failed, key=lambda pair: pair[0].cell.score or 0.0)[:_CASES]:
            steps = [(given, dict(output)) for name, given, output in run.trace if name == desk.name]
            given, output = steps[-1] if steps else (example.inputs().toDict(), dict(run.cell.output))
            case = {field: given[field] for field in desk.signature.input_fields if field in given}
            case |= {f"given {field}": output[field] for field in desk.signature.output_fields if field in output}
            case |= {f"right {field}": value for field, value in example.labels().items()}
            said = run.cell.feedback or run.cell.error
            cases.append(plain_values(case) | ({"what was said of it": said} if said else {}))
        if not cases:
            return None
        text = f"{desk.task}\n\n{desk.present}\n\nHere the model went wrong:\n\n{_blocks(cases)}"
        return _Prompt(f"{text}\n\n{_REFLECT} {_FORM}", "failures", _values(cases))


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What the writer is asked.

    Attributes:
        text: All of it.
        source: What it was made from, for a person.
        data: Values of examples that stand in it.
    """

    text: str
    source: str
    data: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Desk:
    """The predictor whose instruction is written.

    Attributes:
        name: Its name.
        signature: Its signature.
        declared: Its author's instruction.
        instruction: The incumbent's.
    """

    name: str
    signature: type[dspy.Signature]
    declared: str
    instruction: str

    @classmethod
    def of(cls, state: SearchState, name: str) -> _Desk:
        """Sets it up for one predictor of the incumbent."""
        signature = state.space.searched(state.task.program)[name].signature
        chosen = state.incumbent.candidate.predictors[name].instruction
        return cls(name, signature, signature.instructions, chosen or signature.instructions)

    @property
    def fields(self) -> list[str]:
        """Of the signature, inputs first."""
        return list(self.signature.fields)

    @property
    def task(self) -> str:
        """What the model is given and must give."""
        given = ", ".join(name.replace("_", " ") for name in self.signature.input_fields)
        wanted = "; ".join(_wanted(name, info.annotation) for name, info in self.signature.output_fields.items())
        return f"You write the instruction for a language model.\nIt is given: {given}.\nIt must give: {wanted}."

    @property
    def about(self) -> str:
        """What an instruction for this may speak of: fields, choices, and what the author says."""
        fields = self.signature.fields.items()
        told = [f"{name.replace('_', ' ')} {' '.join(choices_of(info.annotation))}" for name, info in fields]
        return " ".join([self.declared, *told])

    @property
    def present(self) -> str:
        """The incumbent's instruction."""
        return f"The instruction so far: {_short(self.instruction, 4 * _SHOWN)}"


def _wanted(name: str, annotation: Any) -> str:
    hint = type_hint(annotation)
    words = name.replace("_", " ")
    return f"{words} ({hint})" if hint and len(hint) < 2 * _SHOWN else words


def _summary(signature: type[dspy.Signature], examples: Sequence[dspy.Example]) -> str:
    """Says in a few words what the examples are like: how long inputs are, which labels there are and how often."""
    told = []
    for name in signature.input_fields:
        texts = [example[name] for example in examples if isinstance(example.get(name), str)]
        if texts:
            lengths = [len(text.split()) for text in texts]
            told.append(f"The {name} has about {median(lengths):.0f} words, at most {max(lengths)}.")
    for name, info in signature.output_fields.items():
        labels = [example[name] for example in examples if example.get(name) is not None]
        if labels and choices_of(info.annotation):
            common = Counter(write_field(label, info.annotation) for label in labels).most_common(6)
            shares = ", ".join(f"{label} {100 * number / len(labels):.0f} %" for label, number in common)
            told.append(f"How often each {name} is right: {shares}.")
        elif labels and all(isinstance(label, str) for label in labels):
            told.append(f"The {name} has about {median(len(label.split()) for label in labels):.0f} words.")
    return " ".join(told)


def _row(example: dspy.Example, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of an example that the predictor has; those of a chain's example that it has not, after them."""
    own = {name: example[name] for name in fields if name in example}
    return plain_values(own or dict(example))


def _blocks(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join("\n".join(f"{name}: {_short(value)}" for name, value in row.items()) for row in rows)


def _values(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(str(value) for row in rows for name, value in row.items() if name != "what was said of it")


def _short(value: Any, longest: int = _SHOWN) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def _write(writer: dspy.BaseLM, prompt: str) -> str:
    """Asks the writer once; gives its text."""
    settings: dict[str, Any] = {}
    if (limit := writer.kwargs.get("max_tokens")) is not None and limit < _TOKENS:
        settings["max_tokens"] = _TOKENS
    log = logging.getLogger("dspy.clients.lm")
    log.addFilter(_not_cut)
    try:
        outputs = writer(prompt, **settings)
    finally:
        log.removeFilter(_not_cut)
    first = outputs[0] if isinstance(outputs, list) and outputs else ""
    return str(first.get("text") or "") if isinstance(first, dict) else str(first or "")


def _not_cut(record: logging.LogRecord) -> bool:
    """Lets no warning through that an answer was cut: the last whole sentence is taken."""
    return "truncated" not in record.getMessage()
