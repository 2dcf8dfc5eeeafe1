"""Modules that hold what cannot be copied are copied all the same, predictors and all."""

from __future__ import annotations

import copy
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from progspace.programs.candidate import Candidate
from progspace.programs.copying import copied
from progspace.programs.program import Program


class Client:
    """Counts what it is asked, as clients of many threads do; closes its connection when it ends."""

    def __init__(self) -> None:
        self.lock, self.asked, self.open = threading.Lock(), 0, [True]

    def age(self, name: str) -> str:
        """Tells an age."""
        self.asked += 1
        return f"{name} is 41"


class Closing(Client):
    def __del__(self) -> None:
        vars(self).get("open", []).clear()  # one that is half made has none


class Step(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("text -> mood")
        self.connection = sqlite3.connect(":memory:")


class Pipeline(dspy.Module):
    """A step stands in a list and in a dict, and a predictor has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Closing()
        self.steps = [Step(), (Step(),)]
        self.named = {"first": self.steps[0]}
        self.one = self.other = dspy.Predict("text -> mood")
        self.agent = dspy.ReAct("text -> mood", tools=[self.look])
        self.numbers: Any = (number for number in range(3))

    def look(self, text: str) -> str:
        """Looks."""
        return f"{text}{len(self.one.demos)}"


def predictors(module: dspy.Module) -> list[dspy.Predict]:
    return [each for _, each in module.named_sub_modules(dspy.Predict)]


@pytest.mark.parametrize("copying", [copied, lambda module: Program(module, {}).deepcopy().module])
def test_what_cannot_be_copied_is_shared_and_nothing_else(copying: Callable[[dspy.Module], Any]) -> None:
    module = Pipeline()
    module.history.append({"prompt": "a"})
    twin = copying(module)
    assert [name for name, _ in twin.named_predictors()] == [name for name, _ in module.named_predictors()]
    assert not {id(each) for each in predictors(module)} & {id(each) for each in predictors(twin)}
    assert twin.named["first"] is twin.steps[0]
    assert twin.one is twin.other
    assert twin.steps[0].connection is module.steps[0].connection
    assert twin.client is module.client
    assert twin.numbers is module.numbers
    assert twin.history == []
    twin.one.demos = [dspy.Example(text="a", mood="glad")]
    assert (twin.agent.tools["look"](text="a"), module.agent.tools["look"](text="a")) == ("a1", "a0")
    del twin
    assert module.client.open


def test_a_client_is_copied_shallowly_where_it_can_be() -> None:
    module: Any = dspy.Module()
    module.clients = [Client()]
    twin: Any = copied(module)
    twin.clients[0].age("Ann")
    assert (twin.clients[0].asked, module.clients[0].asked) == (1, 0)  # its state tells a program from another
    assert twin.clients[0].lock is module.clients[0].lock


def test_a_way_of_its_own_is_kept_to() -> None:
    class Remade(Step):
        def deepcopy(self) -> Remade:
            return Remade()

    class Guarding(Step):
        def __deepcopy__(self, memo: dict[int, Any]) -> Guarding:
            raise TypeError("not this one")

    around: Any = dspy.Module()
    around.step, around.lock = Guarding(), threading.Lock()
    assert copied(remade := Remade()).connection is not remade.connection
    assert copied(around).step.connection is around.step.connection
    assert copied(around).step.predict is not around.step.predict


def test_the_state_of_a_class_is_asked_as_copying_asks_it() -> None:
    class Careful(Step):
        def __getstate__(self) -> dict[str, Any]:
            return {**super().__getstate__(), "connection": None, "made": copy.copy([threading.Lock()])}

    around: Any = dspy.Module()
    around.steps, around.lock = [Careful()], threading.Lock()
    assert copied(around).lock is around.lock


def test_a_candidate_leaves_the_module_as_it_is() -> None:
    module = Pipeline()
    candidate = Candidate.declared(module).with_choice(demonstrations=({"text": "a", "mood": "sad"},), instruction="b")
    program = candidate.apply(module)
    assert all(each.demos for each in program.module.predictors())
    assert not any(each.demos or each.signature.instructions == "b" for each in module.predictors())
