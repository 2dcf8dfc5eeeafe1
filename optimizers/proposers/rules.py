"""Proposes instructions by rule, without an LM: templates of a signature's parts, other words for the author's."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from ...programs.candidate import Candidate
from ...programs.fields import choices_of, type_hint
from .base import SearchState
from .novelty import novel, retold

__all__ = ["RuleProposer", "rewritten"]

_LONGEST = 600  # characters: what rules add to an instruction ends somewhere
_SHORT = (
    400  # characters: a longer instruction says what no template knows (an agent's tools, say), and is only added to
)
_MANY = 12  # choices: more of them in a sentence help nobody


class RuleProposer:
    """Gives the incumbent with instructions in other words, for all predictors of a chain, or one of them.

    Each rule is one that people try by hand: to say it as an order or as a question, to name the choices, to give a
    role, to ask for brevity. Two rules are combined after each was tried alone. It costs no LM call, and for an LM too
    small to write instructions it is the way to vary them.
    """

    name = "rules"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many instructions that were not measured yet."""
        if "rules" not in state.space.instructions:
            return []
        return novel(self._all(state), state, count)

    @staticmethod
    def _all(state: SearchState) -> Iterator[Candidate]:
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        generator = random.Random(state.seed)  # noqa: S311 — reproducible, not secret
        current = {
            name: incumbent.predictors[name].instruction or predictor.signature.instructions
            for name, predictor in searched.items()
        }
        texts = {
            name: dict(rewritten(predictor.signature, current[name], generator)) for name, predictor in searched.items()
        }
        groups: list[Sequence[str]] = [list(searched), *([[name] for name in searched] if len(searched) > 1 else [])]
        for label in dict.fromkeys(itertools.chain.from_iterable(texts.values())):
            for names in groups:
                candidate = incumbent
                for name in names:
                    if label in texts[name]:
                        candidate = candidate.with_choice(predictor=name, instruction=texts[name][label])
                if candidate != incumbent:
                    told = label if names == list(searched) else f"{names[0]} {label}"
                    yield candidate.model_copy(update={"origin": retold(incumbent.origin, "instruction", told)})


def rewritten(signature: type[dspy.Signature], instruction: str, generator: random.Random) -> Iterator[tuple[str, str]]:
    """Gives an instruction in other words, each with what was done to it: first by one rule, then by two.

    Args:
        signature: Whose fields, choices and descriptions are told.
        instruction: The author's, or one of an earlier round.
        generator: Of the order.

    >>> signature = dspy.Signature("review -> verdict: bool", "Judge the review.")
    >>> found = dict(rewritten(signature, "Judge the review.", random.Random(0)))
    >>> found["names the choices"]
    'Judge the review. The verdict is true or false.'
    >>> found["read, then give"]
    'Read the review, then give the verdict.'
    """
    parts = _Parts.of(signature)
    kept = instruction.strip()[1:] if len(instruction) > _SHORT or "\n" in instruction.strip() else ""
    bases = [(label, text) for label, rule in _BASES.items() if kept in (text := rule(parts, instruction)) and text]
    additions = [(label, text) for label, rule in _ADDITIONS.items() if (text := rule(parts, instruction))]
    singles = [*bases, *((label, _joined(instruction, text)) for label, text in additions)]
    pairs = [
        (f"{first}, {second}", _joined(base, text))
        for (first, base), (second, text) in itertools.product(bases, additions)
    ]
    pairs += [
        (f"{first}, {second}", _joined(_joined(instruction, one), other))
        for (first, one), (second, other) in itertools.combinations(additions, 2)
    ]
    seen = {instruction.strip()}
    for some in (singles, pairs):
        generator.shuffle(some)
        for label, text in some:
            if text.strip() and text not in seen and len(text) <= max(_LONGEST, len(instruction) + 80):
                seen.add(text)
                yield label, text


@dataclass(frozen=True, slots=True)
class _Parts:
    """A signature's parts as words.

    Attributes:
        given: ``the passage and the question``.
        wanted: ``the answer``.
        first: The output that is asked for first, ``answer``.
        choices: ``positive or negative``; empty where the only output is no choice.
        backwards: The choices from the last to the first.
        described: What the author says of the fields, as sentences.
        textual: Whether an output is free text.
    """

    given: str
    wanted: str
    first: str
    choices: str
    backwards: str
    described: str
    textual: bool

    @classmethod
    def of(cls, signature: type[dspy.Signature]) -> _Parts:
        outputs = signature.output_fields
        annotations = [info.annotation for info in outputs.values()]
        choices = list(choices_of(annotations[0])) if len(annotations) == 1 else []
        named = type_hint(annotations[0]) if 1 < len(choices) <= _MANY else ""
        told = [(name, _description(info)) for name, info in signature.fields.items()]
        return cls(
            given=_list([f"the {_words(name)}" for name in signature.input_fields]),
            wanted=_list([f"the {_words(name)}" for name in outputs]),
            first=_words(next(iter(outputs))),
            choices=named,
            backwards=_list(choices[::-1], "or") if named else "",
            described=" ".join(f"The {_words(name)}: {text.rstrip('.')}." for name, text in told if text),
            textual=any(annotation is str for annotation in annotations),
        )


def _description(info: Any) -> str:
    text = str((info.json_schema_extra or {}).get("desc") or "")
    return "" if text.startswith("${") else text.strip()


def _words(name: str) -> str:
    return name.replace("_", " ").strip()


def _list(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part.strip()]


def _joined(text: str, addition: str) -> str:
    """Adds a sentence; one that is there already is not said again."""
    if addition in text:
        return text
    text = text.strip()
    return f"{text}{'' if text.endswith(('.', '!', '?', ':')) else '.'} {addition}"


_LEAD = re.compile(
    r"^(?:please|kindly|your (?:task|job|goal) is to|you (?:will|should|must|are asked to)|i want you to)[,:]?\s+",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"^(?:given|based on|using|from)\s[^,.]*,\s+(?=\w)", re.IGNORECASE)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _imperative(_: _Parts, instruction: str) -> str:
    return _capital(_GIVEN.sub("", _LEAD.sub("", instruction.strip())))


def _question(parts: _Parts, _: str) -> str:
    if parts.choices:
        return f"Is the {parts.first} {parts.choices}?"
    return f"What is the {parts.first}?"


def _first_sentence(_: _Parts, instruction: str) -> str:
    return _sentences(instruction)[0] if instruction.strip() else ""


def _choose(parts: _Parts, _: str) -> str:
    return f"Choose the {parts.first} that fits {parts.given}: {parts.choices}." if parts.choices else ""


def _choose_backwards(parts: _Parts, _: str) -> str:
    return f"Choose the {parts.first} that fits {parts.given}: {parts.backwards}." if parts.choices else ""


def _label(parts: _Parts, _: str) -> str:
    return f"{_capital(parts.first)}: {parts.choices}." if parts.choices else f"Give {parts.wanted}."


_Rule = Callable[[_Parts, str], str]

_BASES: dict[str, _Rule] = {
    "read, then give": lambda parts, _: f"Read {parts.given}, then give {parts.wanted}.",
    "as an order": _imperative,
    "as a question": _question,
    "as a choice": _choose,
    "as a choice, backwards": _choose_backwards,
    "as a label": _label,
    "as a task": lambda _, text: f"Your task: {_small(text.strip())}",
    "as an expert": lambda _, text: f"You are an expert. {text.strip()}",
    "as a careful reader": lambda parts, text: f"You read {parts.given} with care. {text.strip()}",
    "first sentence": _first_sentence,
    "given and wanted": lambda parts, _: f"Given: {parts.given}. Wanted: {parts.wanted}.",
    "decide": lambda parts, _: f"Decide what {parts.wanted} of {parts.given} is." if parts.choices else "",
    "read first": lambda parts, text: f"Read {parts.given} to the end. {text.strip()}",
}
"""Instructions that stand in the place of the present one."""

_ADDITIONS: dict[str, _Rule] = {
    "names the choices": lambda parts, _: f"The {parts.first} is {parts.choices}." if parts.choices else "",
    "one of the choices": lambda parts, _: f"Answer with one of: {parts.choices}." if parts.choices else "",
    "choices backwards": lambda parts, _: f"Answer {parts.backwards}." if parts.choices else "",
    "describes the fields": lambda parts, _: parts.described,
    "answer only": lambda parts, _: f"Give {parts.wanted} and nothing else.",
    "few words": lambda parts, _: "Use as few words as you can." if parts.textual else "",
    "whole sentence": lambda parts, _: "Answer exactly, with all that belongs to it." if parts.textual else "",
    "from the input alone": lambda parts, _: f"Go by {parts.given} alone.",
    "step by step": lambda _, __: "Think it through before you answer.",
    "no second guess": lambda _, __: "Take the answer that is most likely.",
    "examples": lambda _, __: "Answer as in the examples.",
    "overall": lambda parts, _: f"What counts is {parts.given} as a whole." if parts.choices else "",
    "details": lambda parts, _: f"Small words in {parts.given} matter.",
}
"""Sentences that are added to it."""
