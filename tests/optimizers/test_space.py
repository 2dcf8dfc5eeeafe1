from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.optimizers.plans import default_plans
from progspace.optimizers.space import Space


def test_formats_follow_what_the_lm_offers(rule_engine: Any, mood: Any) -> None:
    plain = {each.label for each in Space().formats_for([mood], rule_engine(str).lm())}
    assert plain == {"compact, free", "compact, hints, free", "json, free"}
    scoring = rule_engine(str, logprobs=lambda prompt, choice: 0.0).lm()
    offered = {each.label for each in Space().formats_for([mood], scoring)}
    assert offered - plain == {
        f"compact, {h}{d}" for h in ("", "hints, ") for d in ("constrained", "scored", "calibrated")
    }
    text = dspy.Signature("text -> summary")
    assert not any("scored" in each.label for each in Space().formats_for([text], scoring))


def test_one_line_narrows_it_and_its_size_follows(mood: Any) -> None:
    module = dspy.Predict(mood)
    narrow = Space(formats=["json"], instructions=[], demonstrations=[4], selections=["labelled"], answers=["direct"])
    choices = narrow.choices(module)["self"]
    assert choices.formats == ("as declared", "json, constrained", "json, free")
    assert choices.demonstrations == (0, 4)
    assert choices.size == 3 * 1 * 2 * 3
    assert Space().choices(module)["self"].size > choices.size
    assert Space(selections=[]).choices(module)["self"].selections == ()


def test_a_space_of_one_point_leaves_no_rung_to_climb(mood: Any, rule_engine: Any) -> None:
    point = Space(formats=[], instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    assert default_plans(point, dspy.Predict(mood), rule_engine(str).lm()) == ()
    assert point.choices(dspy.Predict(mood))["self"].size == 1


def test_rungs_are_those_on_which_something_can_be_chosen(mood: Any, rule_engine: Any) -> None:
    def rungs(space: Space) -> list[str]:
        return [plan.name for plan in default_plans(space, dspy.Predict(mood), rule_engine(str).lm())]

    assert rungs(Space()) == ["formats", "prompts", "chaining"]
    assert rungs(Space(answers=["direct"], votes=[1])) == ["formats", "prompts"]
    assert rungs(Space(formats=["chat"], demonstrations=[], instructions=[])) == ["chaining"]
    assert rungs(Space(answers=["chain_of_thought"], votes=[1])) == ["formats", "prompts", "chaining"]
    assert rungs(Space(answers=["direct"], votes=[3])) == ["formats", "prompts", "chaining"]


def test_an_unknown_predictor_is_told_with_those_there_are(mood: Any) -> None:
    with pytest.raises(ps.ProgramError, match=r"nobody; the program has self"):
        Space(predictors=["nobody"]).searched(dspy.Predict(mood))


def test_formats_of_a_chain_are_tried_on_all_predictors_before_one_by_one(rule_engine: Any, mood: Any) -> None:
    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = dspy.Predict(mood), dspy.Predict(mood)

    lm = rule_engine(str).lm()
    chain, single = (default_plans(Space(), module, lm)[0] for module in (Twice(), dspy.Predict(mood)))
    assert (chain.name, chain.places) == ("formats", 2 * len(Space().formats_for([mood], lm)))
    assert single.places is None


@pytest.mark.parametrize("wrong", [{"formats": ["xml"]}, {"votes": [-1]}, {"max_prompt_tokens": 0}, {"colour": 1}])
def test_what_is_no_choice_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(?i)space"):
        Space(**wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"predictors": []}, "name those that may, or leave it out for all"),
        ({"lms": {"large": "openai/x"}}, r"'openai/x' is no LM: in Python, ps\.lm\('openai/x'\) makes one"),
        ({"lms": {"large": None}}, "None is no LM"),
        ({"votes": [0, 3]}, "greater than or equal to 1"),
        ({"votes": [100]}, "less than or equal to 99"),
    ],
)
def test_what_would_fail_in_the_search_is_refused_with_what_mends_it(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Space(**wrong)


def test_formats_that_would_ask_the_same_are_one(mood: Any) -> None:
    def hints(signature: Any) -> set[bool]:
        return {each.hints for each in Space().formats_for([signature], None)}

    assert hints(mood) == {False, True}
    assert hints(dspy.Signature("question -> answer")) == {False}
    assert hints(dspy.Signature("question -> count: int")) == {False, True}


def test_what_is_no_text_is_not_written_as_text(rule_engine: Any) -> None:
    def kinds(annotation: Any) -> set[str]:
        signature = dspy.Signature({"given": (annotation, dspy.InputField()), "mood": (str, dspy.OutputField())})
        return {each.kind for each in Space().formats_for([signature], rule_engine(str).lm())}

    assert kinds(list[str]) == kinds(dspy.Code) == {"compact", "json"}
    assert kinds(dspy.History) == kinds(dspy.Image) == kinds(list[dspy.Image]) == {"json"}


def test_one_format_beside_the_declared_one_is_a_choice(rule_engine: Any, mood: Any) -> None:
    space = Space(formats=["json"], decodings=["free"])
    lm = rule_engine(str).lm()
    assert [each.label for each in space.formats_for([mood], lm)] == ["json, free"]
    assert default_plans(space, dspy.Predict(mood), lm)[0].name == "formats"
