"""promptolution's CAPO as it ships, on a DSPy task.

In its default format CAPO has its own prompt (system prompt, instruction, few shots, input) and its marker-based
predictor; in ours the same instruction and few shots are laid out by the compact format, and choices are scored. A
prompt of CAPO's is one step: of a chain it searches a single prompt from the inputs to the last output.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import numpy as np
import pandas as pd
from dspy.utils.exceptions import LMError as DspyLMError
from promptolution.llms.base_llm import BaseLLM
from promptolution.optimizers.capo import CAPO
from promptolution.predictors.base_predictor import BasePredictor
from promptolution.predictors.maker_based_predictor import MarkerBasedPredictor
from promptolution.tasks import ClassificationTask, RewardTask
from promptolution.utils.callbacks import BaseCallback
from promptolution.utils.prompt import Prompt
from promptolution.utils.templates import DEFAULT_SYS_PROMPT, default_prompts

from ..lms.journal import JournaledLM
from ..programs.compact import CompactAdapter
from ..programs.fields import choices_of
from ..programs.metrics import scored
from .peer_search import Found, Search

__all__ = ["PromptProgram", "capo"]

_SHOT = re.compile(r"Input:\n(.*?)\nOutput:\n(.*?)(?=\n\nInput:|\Z)", re.DOTALL)
_MARKERS = "<final_answer>", "</final_answer>"
_STEPS = 30  # more than any budget here holds: the meter ends the search


class PromptProgram(dspy.Module):
    """Runs a prompt of promptolution's as its marker-based predictor does.

    Args:
        prompt: The whole prompt, to which the input is added.
        inputs: The input fields.
        output: The output field.
        classes: The labels in lower case, the first of which stands for any other answer; None for free text.
    """

    def __init__(self, prompt: str, inputs: Sequence[str], output: str, classes: Sequence[str] | None) -> None:
        super().__init__()
        self.prompt, self.inputs, self.output = prompt, list(inputs), output
        self.classes = None if classes is None else list(classes)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Asks the LM of ``dspy.settings``."""
        answer = _asked(dspy.settings.lm, f"{self.prompt}\n{_as_text(self.inputs, inputs)}", DEFAULT_SYS_PROMPT)
        text = answer.split(_MARKERS[0])[-1].split(_MARKERS[1])[0].strip().lower()
        if self.classes is not None and text not in self.classes:
            text = self.classes[0]
        return dspy.Prediction(**{self.output: text})


class _MeteredLLM(BaseLLM):
    """promptolution's LLM over an LM of DSPy's."""

    def __init__(self, lm: JournaledLM, threads: int) -> None:
        super().__init__()
        self.lm, self.threads = lm, threads

    def _get_response(self, prompts: list[str], system_prompts: list[str]) -> list[str]:
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda pair: _asked(self.lm, *pair), zip(prompts, system_prompts, strict=True)))


class _CompactPredictor(BasePredictor):
    """Runs CAPO's instruction and few shots in the compact format, choices scored."""

    def __init__(self, llm: _MeteredLLM, signature: type[dspy.Signature], rows: dict[str, dspy.Example]) -> None:
        super().__init__(llm)
        self.signature, self.rows = signature, rows
        self.output = next(iter(signature.output_fields))

    def predict(self, prompts: Any, xs: list[str], system_prompts: Any = None) -> tuple[list[str], list[str]]:  # noqa: ARG002
        """Gives the answers, and for each the input with the answer."""
        given = [prompts] * len(xs) if isinstance(prompts, str) else list(prompts)
        with ThreadPoolExecutor(self.llm.threads) as pool:
            answers = list(pool.map(lambda pair: self._answer(*pair), zip(given, xs, strict=True)))
        return [answer.lower() for answer in answers], [f"{x}\n{answer}" for x, answer in zip(xs, answers, strict=True)]

    def _extract_preds(self, preds: list[str]) -> list[str]:
        return preds

    def _answer(self, prompt: str, x: str) -> str:
        instruction, demos = self.parts(prompt)
        signature = self.signature.with_instructions(instruction)
        try:
            outputs = CompactAdapter(decoding="scored")(self.llm.lm, {}, signature, demos, self._inputs(x))
        except DspyLMError:  # the prompt is too long
            return ""
        return str(outputs[0][self.output])

    def parts(self, prompt: str) -> tuple[str, list[dict[str, Any]]]:
        """Takes a prompt apart into its instruction and its few shots."""
        head, found, rest = prompt.removesuffix("Input:").strip().partition("\n\nInput:\n")
        shots = _SHOT.findall(f"Input:\n{rest}") if found else []
        return head, [{**self._inputs(x), self.output: self._label(y.strip())} for x, y in shots]

    def _inputs(self, x: str) -> dict[str, Any]:
        return dict(self.rows[x].inputs())

    def _label(self, text: str) -> str:
        choices = choices_of(self.signature.output_fields[self.output].annotation)
        return next((choice for choice in choices if choice.lower() == text.lower()), text)


class _Steps(BaseCallback):
    """Counts the steps that were finished, and keeps the best score of each."""

    def __init__(self) -> None:
        self.best: list[float] = []

    def on_step_end(self, optimizer: Any) -> bool:
        self.best.append(float(optimizer.scores[0]))
        return True


def capo(search: Search) -> Found:
    """CAPO: blocks of 10 to 30 rows; the meter ends it, and what its last finished step held is its result."""
    signature = _signature(search.task)
    (output,) = signature.output_fields
    choices = choices_of(signature.output_fields[output].annotation)
    classes = [choice.lower() for choice in choices] or None
    rows = {_as_text(search.task.inputs, example): example for example in search.everything}
    block, crossovers = (10, 2) if search.runs <= 600 else (20, 4) if search.runs <= 1200 else (30, 4)
    llm, meta = _MeteredLLM(search.lm, search.threads), _MeteredLLM(search.prompt_lm, search.threads)
    predictor: Any = _CompactPredictor(llm, signature, rows) if search.best else MarkerBasedPredictor(llm, classes)
    initial = _initial(signature, list(choices), search)
    random.seed(search.seed)  # CAPO draws from the process's own generators
    np.random.seed(search.seed)
    steps = _Steps()
    optimizer = CAPO(
        predictor,
        _task(search, rows, output, classes, block),
        meta,
        initial_prompts=list(initial),
        crossovers_per_iter=crossovers,
        max_n_blocks_eval=max(2, search.runs // (2 * block * (len(initial) + crossovers))),
        callbacks=[steps],
    )

    def program(prompt: Prompt) -> dspy.Module:
        if not search.best:
            return PromptProgram(prompt.construct_prompt(), search.task.inputs, output, classes)
        instruction, demos = predictor.parts(prompt.construct_prompt())
        module = dspy.Predict(signature.with_instructions(instruction))
        module.demos = [dspy.Example(dict(demo)) for demo in demos]
        return module

    prompts = optimizer.optimize(_STEPS)
    scores = ", ".join(f"{score:.3f}" for score in steps.best)
    return Found(
        program(prompts[0]) if steps.best else None,
        f"{len(steps.best)} steps of {len(initial)} + {crossovers} prompts, blocks of {block}; best of each: {scores}",
        start=program(Prompt(initial[0])),
        own_prompt=not search.best,
        note="one prompt for the whole chain" if len(search.task.program.predictors()) > 1 else "",
    )


def _signature(task: Any) -> type[dspy.Signature]:
    """The program's own signature; of a chain its last one, from the program's inputs alone."""
    *_, last = task.program.predictors()
    signature: type[dspy.Signature] = last.signature
    for name in signature.input_fields:
        if name not in task.inputs:
            signature = signature.delete(name)
    return signature


def _initial(signature: type[dspy.Signature], choices: list[str], search: Search) -> list[str]:
    """Four prompts to start from: in CAPO's format, with four of promptolution's default prompts."""
    inputs, outputs = " and ".join(signature.input_fields), " and ".join(signature.output_fields)
    told = f" Possible answers: {', '.join(choices)}." if choices else ""
    instruction = f"{signature.instructions}{told}"
    if search.best:
        return [
            signature.instructions,
            instruction,
            f"Read the {inputs}, then give the {outputs}.{told}",
            f"You are an expert. {instruction}",
        ]
    drawn = random.Random(search.seed).sample(default_prompts, 4)  # noqa: S311 — reproducible, not secret
    return [f"{instruction} {prompt}" for prompt in drawn]


def _task(
    search: Search, rows: dict[str, dspy.Example], output: str, classes: list[str] | None, block: int
) -> ClassificationTask | RewardTask:
    texts = list(rows)
    random.Random(search.seed).shuffle(texts)  # noqa: S311 — reproducible, not secret
    settings: dict[str, Any] = {
        "task_description": _signature(search.task).instructions,
        "n_subsamples": block,
        "eval_strategy": "sequential_block",
        "seed": search.seed,
    }
    frame = pd.DataFrame({"x": texts, "y": [str(rows[text][output]) for text in texts]})
    if classes is not None:
        return ClassificationTask(frame, **settings)

    def reward(found: str, row: dspy.Example) -> float:
        return scored(search.task.metric, row, dspy.Prediction(**{output: found})).score

    frame["row"] = [rows[text] for text in texts]
    return RewardTask(frame, reward, y_column="y", reward_columns=["row"], **settings)


def _as_text(names: Sequence[str], values: Any) -> str:
    """Writes inputs as the one text that promptolution knows."""
    if len(names) == 1:
        return str(values[names[0]])
    return "\n".join(f"{name.capitalize()}: {values[name]}" for name in names)


def _asked(lm: Any, prompt: str, system: str) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    try:
        return str(lm(messages=messages)[0])
    except DspyLMError:  # the prompt is too long
        return ""
