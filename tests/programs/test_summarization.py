"""Summaries of what fits, and of what does not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.programs.summarization import Summarization, pieces


def words(text: str) -> int:
    return len(text.split())


def test_pieces_lose_nothing_and_fit() -> None:
    text = "\n\n".join(f"Chapter {i}. " + " ".join(f"w{i}x{j}" for j in range(40)) + "." for i in range(9))
    parts = pieces(text, 100, words)
    assert len(parts) > 1
    assert max(map(words, parts)) <= 100
    assert " ".join(parts).split() == text.split()
    assert pieces(" \n ", 10, words) == []


def marks(prompt: str) -> list[str]:
    return re.findall(r"MARK\d+", prompt[prompt.rindex("[[ ## passages ## ]]") :])


def rule(prompt: str) -> str:
    """A summary that keeps the marks of what it was shown."""
    return f"[[ ## summary ## ]]\n{' '.join(marks(prompt))}\n\n[[ ## completed ## ]]"


def test_a_long_text_is_summarized_by_parts_and_all_of_it(rule_engine: Any) -> None:
    text = "\n\n".join(f"MARK{i} " + "and so it goes on " * 20 for i in range(12))
    engine = rule_engine(rule)
    module = Summarization(max_tokens=400)
    with dspy.context(lm=engine.lm(), adapter=dspy.ChatAdapter()):
        given = module(text=text)
        calls = len(engine.prompts)
        again = asyncio.run(module.acall(text=text))
    assert given.summary.split() == [f"MARK{i}" for i in range(12)]
    assert (again.summary, again.rounds, len(engine.prompts)) == (given.summary, given.rounds, 2 * calls)
    assert given.rounds >= 2
    assert calls > 2
    assert all(len(marks(prompt)) < 12 for prompt in engine.prompts[: calls - 1])


def test_a_text_that_fits_is_summarized_at_once(rule_engine: Any) -> None:
    engine = rule_engine(rule)
    with dspy.context(lm=engine.lm(), adapter=dspy.ChatAdapter()):
        assert Summarization()(text="MARK1 is short.").toDict() == {"summary": "MARK1", "rounds": 1}
        assert Summarization()(text="").summary == ""
    assert len(engine.prompts) == 1


def test_it_ends_where_the_lm_shortens_nothing(rule_engine: Any) -> None:
    """An LM that repeats what it reads gets cut summaries, so that each round has half as many at most."""

    def parrot(prompt: str) -> str:
        shown = prompt[prompt.rindex("[[ ## passages ## ]]") + 22 :].split("Respond with")[0]
        return f"[[ ## summary ## ]]\n{shown}\n\n[[ ## completed ## ]]"

    engine = rule_engine(parrot)
    with dspy.context(lm=engine.lm(), adapter=dspy.ChatAdapter()):
        given = Summarization(max_tokens=200)(text="It rains on the hills. " * 200)
    assert given.rounds <= 6
    assert given.summary


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ps.ProgramError, match="summary"):
        Summarization(dspy.Signature("passages -> gist"))
    with pytest.raises(ps.ProgramError, match="at least"):
        Summarization(max_tokens=5)
