"""Modules as DSPy's own tutorials write them compile unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import dspy
import pytest

import progspace as ps
from progspace.store.database import Store

LANDS = [f"{start}{end}" for start in ("Ar", "Bel", "Cor", "Dun", "El", "Fal", "Gor", "Hal") for end in
         ("nia", "land", "via", "dor", "mark")]  # fmt: skip
CAPITALS = {land: f"{land[:3]}{number}ville" for number, land in enumerate(LANDS)}
PASSAGES = [f"{land} | The capital of {land} is {capital}." for land, capital in CAPITALS.items()]


def search(query: str, k: int = 2) -> list[str]:
    """Finds the passages that share most words with a query."""
    words = set(re.findall(r"\w+", query))
    return sorted(PASSAGES, key=lambda passage: -len(words & set(re.findall(r"\w+", passage))))[:k]


def search_wikipedia(query: str) -> list[str]:
    """Returns passages on the query."""
    return search(query)


def chatting(answer: Callable[[str, str], str]) -> Callable[[str], str]:
    """An LM that follows DSPy's chat format: ``answer`` gives each output field that is asked for."""

    def rule(prompt: str) -> str:
        _, asked, tail = prompt.rpartition("Respond with the corresponding output fields")
        fields = [name for name in re.findall(r"\[\[ ## (\w+) ## \]\]", tail) if name != "completed"]
        if not asked or not fields:
            return "what?"
        return "\n\n".join(f"[[ ## {name} ## ]]\n{answer(name, prompt)}" for name in fields)

    return rule


WRONG = {"north": "south", "south": "north"}


def stumbling(answer: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """The same LM, wrong on every third land unless it is shown examples."""

    def stumble(field: str, prompt: str) -> str:
        right = answer(field, prompt)
        shown = prompt.count("[[ ## completed ## ]]") > 2
        land = next((land_in(given) for name in ("text", "question", "claim") if (given := last(prompt, name))), "")
        if shown or field not in ("label", "response", "titles", "answer") or LANDS.index(land) % 3:
            return right
        return WRONG.get(right, "[]" if field == "titles" else "unknown")

    return stumble


def last(prompt: str, field: str) -> str:
    """What the prompt gives for an input field."""
    found = re.findall(rf"\[\[ ## {field} ## \]\]\n(.*?)(?=\n\n\[\[|\n\nRespond)", prompt, re.DOTALL)
    return found[-1] if found else ""


def land_in(text: str) -> str:
    return next((land for land in LANDS if land in text), "nowhere")


def capital_in(text: str, land: str) -> str:
    found = re.search(rf"capital of {land} is (\w+)", text)
    return found.group(1) if found else "unknown"


class RAG(dspy.Module):
    """The tutorial on retrieval-augmented generation."""

    def __init__(self) -> None:
        super().__init__()
        self.respond = dspy.ChainOfThought("context, question -> response")

    def forward(self, question: str) -> dspy.Prediction:
        return self.respond(context=search(question), question=question)


class Hop(dspy.Module):
    """The tutorial on multi-hop retrieval."""

    def __init__(self, num_docs: int = 2, num_hops: int = 2) -> None:
        super().__init__()
        self.num_docs, self.num_hops = num_docs, num_hops
        self.generate_query = dspy.ChainOfThought("claim, notes -> query")
        self.append_notes = dspy.ChainOfThought("claim, notes, context -> new_notes: list[str], titles: list[str]")

    def forward(self, claim: str) -> dspy.Prediction:
        notes: list[str] = []
        titles: list[str] = []
        for hop in range(self.num_hops):
            query = self.generate_query(claim=claim, notes=notes).query if hop else claim
            prediction = self.append_notes(claim=claim, notes=notes, context=search(query, k=self.num_docs))
            notes.extend(prediction.new_notes)
            titles.extend(prediction.titles)
        return dspy.Prediction(notes=notes, titles=titles)


def found_titles(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(set(example.titles) <= set(prediction.titles or ()))


def classify(field: str, prompt: str) -> str:
    return ("north" if LANDS.index(land_in(last(prompt, "text"))) < 20 else "south") if field == "label" else "…"


def respond(field: str, prompt: str) -> str:
    return capital_in(last(prompt, "context"), land_in(last(prompt, "question"))) if field == "response" else "…"


def hop(field: str, prompt: str) -> str:
    land = land_in(last(prompt, "claim"))
    answers = {"query": f"capital of {land}", "new_notes": json.dumps([land]), "titles": json.dumps([land])}
    return answers.get(field, "…")


def act(field: str, prompt: str) -> str:
    question = last(prompt, "question")
    known = "observation_0" in prompt.rpartition("[[ ## question ## ]]")[2]
    answers = {
        "next_tool_name": "finish" if known else "search_wikipedia",
        "next_tool_args": "{}" if known else json.dumps({"query": f"capital of {land_in(question)}"}),
        "answer": capital_in(prompt, land_in(question)),
    }
    return answers.get(field, "…")


def certain(arguments: Any, prediction: Any) -> float:
    return float(prediction.label in ("north", "south"))


Side = dspy.Signature(
    {"text": (str, dspy.InputField()), "label": (Literal["north", "south"], dspy.OutputField())}, "Tell the side."
)
SIDES = [
    {"text": text.format(land), "label": "north" if at < 20 else "south"}
    for at, land in enumerate(LANDS) for text in ("A day in {}.", "{} has a coast.", "We went to {}.")
]  # fmt: skip
QUESTIONS = [
    {"question": text.format(land), "response": CAPITALS[land], "answer": CAPITALS[land]}
    for land in LANDS for text in ("What is the capital of {}?", "Name the capital of {}.", "Where is {} governed?")
]  # fmt: skip
CLAIMS = [
    {"claim": text.format(land), "titles": [land]}
    for land in LANDS for text in ("People live well in {}.", "{} is old.", "It rains in {}.")
]  # fmt: skip

TUTORIALS: dict[str, tuple[Callable[[], dspy.Module], Any, list[str], Any, Any]] = {
    "classification": (lambda: dspy.Predict(Side), SIDES, ["text"], ps.metrics.exact_match("label"), classify),
    "chain of thought": (lambda: dspy.ChainOfThought(Side), SIDES, ["text"], ps.metrics.choice("label"), classify),
    "RAG": (RAG, QUESTIONS, ["question"], ps.metrics.exact_match("response"), respond),
    "multi-hop": (Hop, CLAIMS, ["claim"], found_titles, hop),
    "agent": (lambda: dspy.ReAct("question -> answer", tools=[search_wikipedia], max_iters=3), QUESTIONS,
              ["question"], ps.metrics.exact_match("answer"), act),
    "best of n": (lambda: dspy.BestOfN(dspy.Predict(Side), N=2, reward_fn=certain, threshold=1.0), SIDES, ["text"],
                  ps.metrics.exact_match("label"), classify),
    "refine": (lambda: dspy.Refine(dspy.ChainOfThought(Side), N=2, reward_fn=certain, threshold=1.0), SIDES, ["text"],
               ps.metrics.exact_match("label"), classify),
}  # fmt: skip


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_module_of_a_tutorial_compiles_unchanged(name: str, rule_engine: Any, store: Store) -> None:
    make, rows, inputs, metric, answer = TUTORIALS[name]
    program = make()
    before = program.dump_state()
    task = ps.Task(program=program, examples=rows, inputs=inputs, metric=metric, name="tutorial")
    engine = rule_engine(chatting(stumbling(answer)))
    compiled = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=400), store=store, test_rows=4)
    report = compiled.report
    assert 0.4 < report.baseline.dev.score < 0.9
    assert report.winner.test is not None
    assert report.winner.dev.score >= report.baseline.dev.score
    assert {rung.name for rung in report.rungs} >= {"baseline", "formats"}
    assert sum(rung.calls for rung in report.rungs) <= 400
    assert program.dump_state() == before
    again = ps.evaluate(compiled.program, task, lm=engine.lm(), store=store)
    assert again.score >= report.baseline.dev.score
