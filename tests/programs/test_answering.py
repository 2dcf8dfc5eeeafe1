from __future__ import annotations

from typing import Any

import dspy
import pytest

from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format


def program(mood: Any, way: Answering, shown: Format | None = None) -> dspy.Module:
    declared = Candidate.declared(dspy.Predict(mood))
    return declared.with_choice(answering=way, format=shown).apply(dspy.Predict(mood))


def chat(prompt: str) -> str:
    thought = "[[ ## reasoning ## ]]\nRain is sad.\n\n" if "reasoning" in prompt else ""
    return f"{thought}[[ ## mood ## ]]\nsad"


def test_reasoning_comes_before_the_answer_and_stays_in_the_prediction(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(chat)
    with dspy.context(lm=engine.lm()):
        told = program(mood, Answering(reasoning=True))(text="rain")
    assert told.mood == "sad"
    assert told.reasoning == "Rain is sad."
    assert len(engine.prompts) == 1


def test_a_scored_choice_is_reasoned_about_in_a_call_of_its_own(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(
        lambda prompt: "It pours." if prompt.endswith("Reasoning:") else "?",
        logprobs=lambda prompt, choice: float(("pours" in prompt) == (choice.strip() == "sad")),
    )
    with dspy.context(lm=engine.lm()):
        told = program(mood, Answering(reasoning=True), Format(kind="compact", decoding="scored"))(text="rain")
    assert told.mood == "sad"
    assert [prompt.rsplit("\n", 1)[-1] for prompt in engine.prompts] == ["Reasoning:", "Mood:"]
    assert "Reasoning: It pours.\nMood:" in engine.prompts[1]


def test_the_majority_of_the_samples_is_taken_and_unreadable_ones_have_no_vote(rule_engine: Any, mood: Any) -> None:
    answers = iter(["glad", "nonsense", "sad", "nope", "sad"])
    with dspy.context(lm=rule_engine(lambda _: next(answers)).lm()):
        assert program(mood, Answering(votes=5), Format(kind="compact"))(text="rain").mood == "sad"


def test_no_sample_that_can_be_read_is_an_error_of_the_prompt(rule_engine: Any, mood: Any) -> None:
    with dspy.context(lm=rule_engine(lambda _: "nonsense").lm()), pytest.raises(Exception, match=r"(?i)parse|field"):
        program(mood, Answering(votes=3))(text="rain")


async def test_tasks_answer_as_calls_do(rule_engine: Any, mood: Any) -> None:
    with dspy.context(lm=rule_engine(chat).lm()):
        told = await program(mood, Answering(reasoning=True)).acall(text="rain")
    assert (told.mood, told.reasoning) == ("sad", "Rain is sad.")


def test_ways_differ_in_the_candidates_hash_and_equal_ones_do_not(mood: Any) -> None:
    declared = Candidate.declared(dspy.Predict(mood))
    assert declared.with_choice(answering=Answering(votes=3)).hash != declared.hash
    assert declared.with_choice(answering=Answering(votes=3)) == declared.with_choice(answering=Answering(votes=3))


def test_samples_of_the_embedded_lm_differ_and_vote(local_lm: dspy.LM, mood: Any) -> None:
    way = Answering(reasoning=True, votes=3)
    with dspy.context(lm=local_lm.copy(max_tokens=24)):
        told = program(mood, way, Format(kind="compact", decoding="constrained"))(text="What a glorious morning!")
    assert told.mood in ("glad", "sad")
    assert told.reasoning
