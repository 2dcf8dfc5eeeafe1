"""What an answer says, apart from how it is written: compared with other answers, looked for in passages, declined."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "ABSTENTION",
    "ABSTENTIONS",
    "abstains",
    "holds",
    "normalised",
    "passage_text",
    "same_label",
    "support",
    "token_f1",
]

ABSTENTION = "unanswerable"
"""What a program answers that has no answer."""
ABSTENTIONS = (
    ABSTENTION,
    "not in the passages",
    "not in the text",
    "not stated in the passages",
    "passages do not say",
    "cannot be answered",
    "not answerable",
    "not enough information",
    "do not know",
    "don't know",
    "no answer",
    "n/a",
)
"""What is read as declining to answer; so is an empty answer."""
_SENTENCE_END = re.compile(r"(?<=[.!?;。！？])\s+|\n+")
_SLACK = 8
_PAIR = re.compile(r"^<([^<>]+)>$|^\$([^$]+)\$$")
_BULLET = re.compile(r"^\W*[^\w\s]\s+(?=[<*`\"'\[(]*[^\W\d_])|^(→|⇒|=>|->)\s*")
_WRAPPINGS = (
    ("**", "**"),
    ("*", "*"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("<", ">"),
    ("[", "]"),
    ("(", ")"),
)
_RANGE = re.compile(r"(?<=\d)\s*-\s*(?=\d)")
_VARIANTS = {0xFE0E: None, 0xFE0F: None, **dict.fromkeys(map(ord, "‐‑‒–—−"), "-")}
"""Selectors of how an emoji is drawn, and the many dashes."""


def normalised(value: Any) -> str:
    """Gives a text without case, punctuation, articles and needless spaces, as SQuAD compares answers.

    (`Rajpurkar et al. 2016 <https://arxiv.org/abs/1606.05250>`_.)

    >>> normalised(" The  Red Fox!")
    'red fox'
    """
    text = "".join(character for character in str(value).lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(expected: Any, found: Any) -> float:
    """Gives the harmonic mean of how many tokens of each answer are in the other; two empty ones are alike.

    >>> round(token_f1("the red fox", "a fox"), 3)
    0.667
    """
    wanted, given = normalised(expected).split(), normalised(found).split()
    if not wanted or not given:
        return float(wanted == given)
    shared = sum((Counter(wanted) & Counter(given)).values())
    return 2 * shared / (len(wanted) + len(given))


def abstains(answer: Any, phrases: Iterable[str] = ABSTENTIONS) -> bool:
    """Tells whether an answer declines to answer: it is empty, or says one of the phrases.

    A phrase of several words counts anywhere in the answer, a single word only where the answer begins or ends with it.

    >>> abstains("This is not in the passages."), abstains("Unanswerable."), abstains(""), abstains("Never")
    (True, True, True, False)
    """
    text = normalised("" if answer is None else answer)
    if not text:
        return True
    for phrase in map(normalised, phrases):
        if not phrase:
            continue
        if " " in phrase and f" {phrase} " in f" {text} ":
            return True
        if text == phrase or text.startswith(f"{phrase} ") or text.endswith(f" {phrase}"):
            return True
    return False


def same_label(expected: Any, found: Any) -> bool:
    """Tells whether an answer is the expected label, apart from case, spaces and punctuation.

    Signs stay: mathematical ones, those of currencies, emoji, ``%``; ``#`` and ``@`` at a word; a dash on one side of a
    word, a star after it; what stands between digits, but commas. An answer may have emoji or a bullet that the label
    has not. A label that is nothing but punctuation must be given as it is.

    >>> same_label("card_arrival", "**Card arrival**."), same_label("positive", "😊 Positive")
    (True, True)
    >>> same_label("C", "C++"), same_label("A+", "A-"), same_label(-1, 1), same_label("+", "-")
    (False, False, False, False)
    """
    one, other = str(expected).strip(), str(found).strip()
    if one == other or (isinstance(expected, int | float) and expected == found):
        return True
    label, bare = _folded(one), _unadorned(other)
    return bool(label) and label in map(_folded, (other, bare, _peeled(other), _peeled(bare)))


def _folded(text: str) -> str:
    """Gives words in lower case and the signs between them, with a space between any two."""
    text = _RANGE.sub("-", _PAIR.sub(r"\1\2", text.translate(_VARIANTS)))
    text = unicodedata.normalize("NFC", text.casefold())
    return " ".join("".join(_folded_at(text, place) for place in range(len(text))).split())


def _folded_at(text: str, place: int) -> str:
    character, kind = text[place], unicodedata.category(text[place])
    if _is_word(character):
        return character
    before, after = (text[each] if 0 <= each < len(text) else " " for each in (place - 1, place + 1))
    attached = _is_word(before) + _is_word(after)
    if character in "`^~|":  # Markdown's
        sign = False
    elif kind.startswith("S") or character == "%":
        sign = True
    elif before.isdigit() and after.isdigit():
        sign = kind.startswith("P") and character not in "_,"
    elif character == "-":
        sign = attached == 1
    else:
        sign = (character in "#@" and attached > 0) or (character == "*" and _is_word(before) and text.count("*") == 1)
    return f" {character} " if sign else " "


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")  # marks: vowels of Hindi, Thai


def _unadorned(text: str) -> str:
    """Gives an answer without emoji, and without a bullet, an arrow or a mark of a quotation before it."""
    text = _BULLET.sub("", text)
    return "".join(" " if unicodedata.category(character) in ("So", "Sk") else character for character in text)


def _peeled(text: str) -> str:
    """Gives an answer out of what is put around it in pairs, one in the other: Markdown, quotes, brackets."""
    before = None
    while text != before:
        before, text = text, text.strip().rstrip(".,;:!")
        for opened, closed in _WRAPPINGS:
            if text.startswith(opened) and text.endswith(closed) and len(text) > len(opened + closed):
                text = text[len(opened) : -len(closed)]
    return text


def passage_text(passage: Any) -> str:
    """Gives the text of a passage of any kind: ours, a retriever's of DSPy, a mapping, or plain text.

    >>> passage_text({"text": "It rains."}), passage_text("It rains.")
    ('It rains.', 'It rains.')
    """
    if isinstance(passage, str):
        return passage
    get = passage.get if hasattr(passage, "get") else lambda name: getattr(passage, name, None)
    return str(get("text") or get("long_text") or "")


def holds(text: str, answer: Any) -> bool:
    """Tells whether a text holds an answer word for word, normalised; an empty answer is held by none.

    >>> holds("It opened on 3 May 2024, in Bergen.", "3 May, 2024"), holds("A party.", "art")
    (True, False)
    """
    wanted = normalised(answer)
    return bool(wanted) and f" {wanted} " in f" {normalised(text)} "


def support(answer: Any, texts: Sequence[str]) -> float:
    """Gives the share of an answer's words that stand in its order, and close together, in one of the texts.

    Each sentence of the answer is looked for alone, in whichever text supports it best; the longer count for more.
    Words are close where the stretch of text is twice as long as the sentence, and a few words more, at most. It is
    blind to meaning: "not" is one word among others, and a paraphrase is not found.

    >>> support("It was opened in Bergen.", ["The house, opened in Bergen by a cook, was small."])
    0.6
    """
    sentences = [words for part in _SENTENCE_END.split(str(answer)) if (words := normalised(part).split())]
    tokens = [normalised(text).split() for text in texts]
    if not sentences:
        return 0.0
    found = sum(max((_longest_in_order(words, text) for text in tokens), default=0) for words in sentences)
    return found / sum(map(len, sentences))


def _longest_in_order(words: Sequence[str], text: Sequence[str]) -> int:
    """Length of the longest common subsequence of the words and any stretch of the text that is not too long."""
    wanted, stretch, best = set(words), 2 * len(words) + _SLACK, 0
    for start, token in enumerate(text):
        if token in wanted:
            best = max(best, _common_subsequence(words, text[start : start + stretch]))
            if best == len(words):
                break
    return best


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, with a bit for each word of ``one``."""
    places: dict[str, int] = {}
    for bit, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << bit
    every = (1 << len(one)) - 1
    open_bits = every
    for word in other:
        matched = open_bits & places.get(word, 0)
        open_bits = ((open_bits + matched) | (open_bits - matched)) & every
    return len(one) - open_bits.bit_count()
