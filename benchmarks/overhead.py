"""What progspace itself costs: the harness per call, and the embedded LM's rate against its bare engine.

    python -m progspace.benchmarks.overhead

First part: an LM that answers at once, evaluated by ``dspy.Evaluate``, without DSPy's cache and with it, and by
progspace, which stores every answer before it is used, and every cell; in turns, with the same program, examples and
threads. Second part: prompts answered by the bare engine in one batch, and by an evaluation, in turns; each pass has
prompts of its own, so that no cache answers.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

import progspace as ps

from ..evaluation.matrix import Matrix
from ..lms.budget import Meter
from ..lms.embedded import EmbeddedEngine, engine_for
from ..lms.generation import GenerationOptions
from ..programs.candidate import Candidate
from ..programs.formats import Format
from ..programs.sentiment import Sentiment
from ..store.database import open_store
from .results import write_results

THREADS = 8
METRIC = ps.metrics.choice("sentiment")
ANSWER = "[[ ## sentiment ## ]]\npositive\n\n[[ ## completed ## ]]"


class InstantEngine:
    """Answers every request at once."""

    concurrency = THREADS

    def complete(self, request: Request) -> Response:
        """Gives the one answer."""
        return Response(None, request.model, Message.assistant(ANSWER), "stop", Usage(input_tokens=1, output_tokens=1))


def examples(count: int, start: int = 0) -> list[dspy.Example]:
    """Examples whose prompts differ from the first word on."""
    words = ["bright", "dull", "long", "short", "kind", "cold", "brisk", "slow", "warm", "odd", "fine", "loud"]
    rows = []
    for number in range(start, start + count):
        text = " ".join(words[(number // 12**place + place) % 12] for place in range(9))
        rows.append(dspy.Example(review=f"{number}: {text}", sentiment="positive").with_inputs("review"))
    return rows


def harness(calls: int, passes: int) -> list[dict[str, Any]]:
    """Times the harnesses in turns; seconds a call on the clock."""
    program = dspy.Predict(Sentiment)
    forgetful = dspy.LM("instant/one", engine=InstantEngine(), cache=False)
    caching = dspy.LM("instant/one", engine=InstantEngine())
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store.db") as store:
        dspy.configure_cache(disk_cache_dir=str(Path(folder) / "dspy"))
        dspy.configure(disable_history=True)  # for all: ten thousand prompts in memory slow every later pass down

        def evaluate(lm: dspy.LM, rows: list[dspy.Example]) -> None:
            scored = dspy.Evaluate(devset=rows, metric=lambda e, p: e.sentiment == p.sentiment, num_threads=THREADS)
            with dspy.context(lm=lm):
                if scored(program).score != 100:
                    raise RuntimeError("dspy.Evaluate did not do the work")

        def fill(rows: list[dspy.Example]) -> None:
            cells = Matrix(store, METRIC, forgetful, Meter(), workers=THREADS).fill(program, rows)
            if any(cell.score != 1 or cell.calls != 1 for cell in cells):
                raise RuntimeError("progspace did not do the work")

        ways = {
            "dspy.Evaluate, nothing remembered": lambda rows: evaluate(forgetful, rows),
            "dspy.Evaluate, answers cached (DSPy's default)": lambda rows: evaluate(caching, rows),
            "progspace, answers and cells stored": fill,
        }
        for number in range(passes + 1):
            rows = examples(calls, start=number * calls)
            for name, way in ways.items():
                spent = 1 / _timed(calls, lambda way=way, rows=rows: way(rows))
                if number:  # the first pass warms them up
                    times.setdefault(name, []).append(spent)
    return [
        {"benchmark": "harness", "harness": name, "calls": calls, "passes": passes, "seconds_per_call": spent}
        for name, spent in times.items()
    ]


def rate(calls: int, passes: int) -> list[dict[str, Any]]:
    """Times the bare engine and an evaluation on prompts of the same kind, in turns; prompts a second."""
    module = dspy.Predict(Sentiment)
    compact = Candidate.declared(module).with_choice(format=Format(kind="compact")).apply(module)
    scored = Candidate.declared(module).with_choice(format=Format(kind="compact", decoding="scored")).apply(module)
    rates: dict[str, list[float]] = {"bare generation": [], "evaluation, generated": []}
    rates |= {"bare scoring": [], "evaluation, scored": []}
    lm = ps.lm("local", max_tokens=8)
    engine = engine_for("smollm2-135m", "f32")
    for number in range(passes + 1):
        rows = [examples(calls, start=(3 * number + part) * calls) for part in range(3)]
        found = {
            "bare generation": _timed(calls, lambda rows=rows: _bare_generation(engine, rows[0])),
            "evaluation, generated": _timed(calls, lambda rows=rows: _evaluation(compact, lm, rows[1])),
            "bare scoring": _timed(calls, lambda rows=rows: _bare_scoring(engine, rows[2])),
            "evaluation, scored": _timed(calls, lambda rows=rows: _evaluation(scored, lm, rows[0])),
        }
        if number:
            for name, value in found.items():
                rates[name].append(value)
    return [
        {"benchmark": "rate", "way": name, "calls": calls, "passes": passes, "calls_per_second": values}
        for name, values in rates.items()
    ]


def _timed(calls: int, run: Any) -> float:
    gc.collect()  # what an earlier pass left behind is not this one's cost
    started = time.perf_counter()
    run()
    return calls / (time.perf_counter() - started)


def _prompt(row: dspy.Example) -> str:
    return f"Classify the sentiment of a movie review.\n\nReview: {row.review}\nSentiment:"


def _bare_generation(engine: EmbeddedEngine, rows: list[dspy.Example]) -> None:
    """All prompts at once, straight to the engine."""
    options = GenerationOptions(max_tokens=8, stop=("\n",))
    futures = [engine.generate(engine.encode(_prompt(row)), options) for row in rows]
    for future in futures:
        future.result()


def _bare_scoring(engine: EmbeddedEngine, rows: list[dspy.Example]) -> None:
    constant = engine.encode("Classify the sentiment of a movie review.\n\n")
    choices = [engine.encode(" positive"), engine.encode(" negative")]
    futures = []
    for row in rows:
        tokens = engine.encode(_prompt(row))
        futures.append(engine.score(constant, tokens[len(constant) :], choices))
    for future in futures:
        future.result()


def _evaluation(program: dspy.Module, lm: dspy.BaseLM, rows: list[dspy.Example]) -> None:
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store.db") as store:
        Matrix(store, METRIC, lm, Meter()).fill(program, rows)


def main() -> None:
    """Runs both parts; prints medians and writes ``results/overhead.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    runs = harness(arguments.calls, arguments.passes)
    print(f"harness, {arguments.calls} calls, {THREADS} threads, median of {arguments.passes} passes:")
    for run in runs:
        print(f"  {run['harness']:<48}{1000 * statistics.median(run['seconds_per_call']):.2f} ms a call")
    rates = rate(arguments.calls, arguments.passes)
    medians = {run["way"]: statistics.median(run["calls_per_second"]) for run in rates}
    print(f"embedded LM, {arguments.calls} prompts, median of {arguments.passes} passes:")
    for way, value in medians.items():
        print(f"  {way:<24}{value:6.1f} calls/s")
    for bare, through in (("bare generation", "evaluation, generated"), ("bare scoring", "evaluation, scored")):
        print(f"  {through} / {bare}: {100 * medians[through] / medians[bare]:.0f} %")
    write_results("overhead", [*runs, *rates])


if __name__ == "__main__":
    main()
