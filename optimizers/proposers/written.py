"""Reads an instruction out of what an LM wrote, and tells whether it is worth measuring."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["is_usable", "read_instruction"]

LONGEST = 1200  # characters of an instruction that was written
_FEWEST = 3  # words
_STEM = 6  # letters of a word that tell what it is about
_RUN = 5  # words in a row that are no chance

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKED = re.compile(r"<instruction>(.*?)(?:</instruction>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[a-z]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LABELLED = re.compile(
    r"^\W*(?:the )?(?:(?:new|better|improved|revised|final|updated) )?instructions?\W*:\W*",
    re.IGNORECASE | re.MULTILINE,
)
_TOLD = re.compile(
    r"^(?:the|my|a)?\s*(?:(?:new|better|improved|revised) )?instructions?\s+"
    r"(?:is|are|should be|could be|would be|should read)(?: written)?(?: as)?(?: to)?\s*:?\s+",
    re.IGNORECASE,
)
_CHATTER = re.compile(r"^(?:sure|certainly|of course|okay|ok|here(?: is|'s| are))\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“](.{12,}?)[\"”]", re.DOTALL)
_ALOUD = re.compile(r"\b(?:instructions?|I|I'm|I am|my)\b")
"""Words of somebody who talks about the instruction instead of giving it."""
_REFUSAL = re.compile(r"^(?:i'?m sorry|sorry|i can(?:no|')t|as an ai)\b", re.IGNORECASE)


def read_instruction(answer: str) -> str:
    r"""Gives the instruction in an LM's answer: between its markers, in quotes, or the first lines that make sense.

    >>> read_instruction("Sure! Here it is:\n<instruction>Judge the review.</instruction> It is short.")
    'Judge the review.'
    >>> read_instruction('The instruction should be written as: "Judge the review by its tone."')
    'Judge the review by its tone.'
    >>> read_instruction("The instruction is to judge the review. It is a good one.")
    'Judge the review. It is a good one.'
    """
    text = _THOUGHT.sub("", answer)
    if marked := [found.strip() for found in _MARKED.findall(text) if found.strip()]:
        return _finished(_clean(marked[-1]))
    if fenced := _FENCED.search(text):
        text = fenced.group(1)
    elif labelled := _LABELLED.search(text):
        text = text[labelled.end() :]
    lines = text.strip().splitlines()
    while len(lines) > 1 and (not lines[0].strip() or _CHATTER.match(lines[0].strip()) or lines[0].rstrip()[-1] == ":"):
        lines = lines[1:]
    text = re.split(r"\n\s*\n", "\n".join(lines).strip())[0]
    quoted = _QUOTED.search(text)
    if quoted and 2 * len(quoted.group(1)) > len(text):
        text = quoted.group(1)
    told = _TOLD.sub("", text)
    return _finished(_clean(told[:1].upper() + told[1:]))


def _clean(text: str) -> str:
    text = re.sub(r"\*\*|^#+ +|^(?:\d+\.|[-*]) +(?=\S)", "", text.strip(), count=0 if "\n" in text else 3)
    return text.strip().strip('"“”`').strip()


def _finished(text: str) -> str:
    """Leaves off a last sentence that was cut, where there is a whole one before it."""
    ends = [found.end() for found in re.finditer(r"[.!?:)\"”](?=\s|$)", text)]
    return text[: ends[-1]].strip() if ends else text


def is_usable(instruction: str, *, task: str, guidance: str, data: Iterable[str]) -> bool:
    """Tells whether an instruction may be worth its cells.

    It is not if it is empty or too long, refuses, speaks of nothing that the task has, speaks of itself or of the
    writer, says the same again and again, repeats what the LM was told, or quotes an example: that would tell the model
    an answer, and teach it nothing.

    Args:
        instruction: As it was read.
        task: What it may speak of: the author's instruction, fields, choices.
        guidance: What the LM was told to do, in our words.
        data: The values of examples that it was shown.

    >>> task = "Classify the sentiment. review sentiment positive negative"
    >>> is_usable("Judge the review by its tone.", task=task, guidance="Write one instruction.", data=["So so."])
    True
    >>> is_usable("The instruction is clear.", task=task, guidance="Write one instruction.", data=["So so."])
    False
    """
    words, known = _words(instruction), _words(task)
    plain = instruction.isascii()  # other scripts have other words
    if (plain and len(words) < _FEWEST) or not words or len(instruction) > LONGEST or _REFUSAL.match(instruction):
        return False
    if plain and not {word[:_STEM] for word in words if len(word) > 3} & {word[:_STEM] for word in known}:
        return False
    label = _words(instruction.partition(":")[0]) if ":" in instruction else []
    if len(label) in (1, 2) and set(label) <= set(known):  # an example's, not an instruction's beginning
        return False
    if _ALOUD.search(instruction) and not _ALOUD.search(task):
        return False
    if _repeats(words) or _share(words, _words(guidance)):
        return False
    for value in data:
        told = _words(value)
        if _share(words, told) or (len(told) >= 4 and " ".join(told) in " ".join(words)):
            return False
    return True


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _share(words: list[str], others: list[str]) -> bool:
    """Whether two texts have a run of words in common that is no chance."""
    runs = {tuple(others[at : at + _RUN]) for at in range(len(others) - _RUN + 1)}
    return any(tuple(words[at : at + _RUN]) in runs for at in range(len(words) - _RUN + 1))


def _repeats(words: list[str]) -> bool:
    runs = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    return len(runs) >= 9 and len(set(runs)) < 0.7 * len(runs)
