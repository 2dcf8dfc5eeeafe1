"""How large the report page of a large search is, and how fast it opens in Chromium.

    python -m progspace.benchmarks.page

A search of 100 candidates on 1,000 examples each is put into a store as a search would; the page is read from it,
written, and opened: from the navigation until the last chart has been drawn, the median of several openings. Beside the
seconds of the clock stand those of the processor, which do not count what else the machine does.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.findings import Findings, Measured, Point, RungReport, Tried, Verdict
from ..evaluation.page.html import html_page
from ..evaluation.page.reading import read_content
from ..store.database import Store, open_store
from ..store.records import Cell
from ..store.searches import Event, Search, add_events, begin_search, searches
from .chromium import chromium
from .results import write_results

_METRIC = "choice(label)"
_CHARTS = ("#race svg.chart", "#front svg.chart", "#matrix canvas")


def main() -> None:
    """Runs it and writes ``results/page.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--openings", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open_store(Path(folder, "store.db")) as store:
            record_search(store, arguments.candidates, arguments.examples)
            (search,) = searches(store)
            begun, busy = time.perf_counter(), time.process_time()
            content = read_content(store, search)
            read = time.perf_counter() - begun, time.process_time() - busy
        begun = time.perf_counter()
        page = Path(folder, "page.html")
        page.write_text(html_page(content), encoding="utf-8")
        written = time.perf_counter() - begun
        opened, worked = _opened(page, arguments.openings)
        line = {
            "task": "page", "candidates": arguments.candidates, "examples": arguments.examples,
            "cells": arguments.candidates * arguments.examples, "bytes": page.stat().st_size,
            "read_seconds": round(read[0], 2), "read_cpu_seconds": round(read[1], 2),
            "write_seconds": round(written, 2), "open_seconds": round(opened, 2), "open_cpu_seconds": round(worked, 2),
        }  # fmt: skip
    print(line)
    write_results("page", [line])


def _opened(page: Path, openings: int) -> tuple[float, float]:
    """Gives seconds of the clock, and of the page's thread on the processor."""
    took, worked = [], []
    with chromium() as browser:
        for _ in range(openings):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            begun = time.perf_counter()
            tab.goto(page.as_uri())
            for chart in _CHARTS:
                tab.locator(chart).wait_for()
            took.append(time.perf_counter() - begun)
            metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
            worked.append(metrics["TaskDuration"])
            tab.close()
    return statistics.median(took), statistics.median(worked)


def record_search(
    store: Store,
    candidates: int,
    examples: int,
    *,
    text: str = "A review, of which there are many.",
    finished: bool = True,
) -> Search:
    """Puts a search into a store as one that ran would; the scores are drawn.

    Args:
        store: Takes it.
        candidates: How many; the later ones are better.
        examples: Of dev; a quarter of them is fresh.
        text: Stands in inputs, outputs, feedback, prompts and names.
        finished: Whether it came to its end.
    """
    drawn = random.Random(0)  # noqa: S311 — for the same scores each time
    raced = round(0.75 * examples)
    hashes = [_hash(f"example {index}") for index in range(examples)]
    search = begin_search(store, task=f"page {text}"[:60], task_hash="t", lm="rule/one", seed=0)
    sizes = {"train": examples, "dev": examples, "test": examples}
    rows = [
        {"hash": each, "inputs": {"text": f"{index}: {text}"}, "labels": {"label": "positive"}}
        for index, each in enumerate(hashes)
    ]
    budget = {"calls": candidates * examples, "tokens": None, "usd": None, "minutes": None}
    happened = [_event("begun", 0, budget=budget, metric=_METRIC, repeats=1, raced=raced, sizes=sizes, examples=rows)]
    happened.append(_event("rung", 0, name="baseline"))
    means: dict[int, float] = {}
    asked = 0
    for number in range(candidates):
        if number == 1:
            happened += [_climbed("baseline", 0, 0, asked), _event("rung", asked, name="prompts")]
        prompts = {"self": f"[system]\nClassify it. {text} {number}\n\n[user]\nText: ⟦text⟧\nLabel:"}
        rung = "prompts" if number else "baseline"
        happened.append(
            _event(
                "joined", asked, candidate=number, origin=f"{number}: {text}"[:80], proposer="rules", rung=rung,
                prompts=prompts,
            )
        )  # fmt: skip
        program, quality = f"program {number}", 0.4 + 0.5 * number / max(1, candidates - 1)
        scores = [float(drawn.random() < quality) for _ in hashes]
        store.put_cells(
            Cell(
                program, example, _METRIC, score=score, output={"label": "positive" if score else text},
                feedback=None if score else f"should be positive: {text}", calls=1,
                asked=(("k", 60, 2),), input_tokens=60 + 3 * number, output_tokens=2, seconds=0.05,
            )
            for example, score in zip(hashes, scores, strict=True)
        )  # fmt: skip
        for until in dict.fromkeys((min(10, raced), raced // 2, raced)):
            asked += max(1, until // 3)
            step = {"candidate": number, "program": program, "examples": until, "fresh": False}
            happened.append(_event("bought", asked, steps=[step]))
        step = {"candidate": number, "program": program, "examples": examples - raced, "fresh": True}
        happened.append(_event("bought", asked, steps=[step]))
        if number % 3 == 1 and number < candidates - 1:
            happened.append(_event("dropped", asked, candidate=number, reason="not among the best 2"))
        means[number] = sum(scores) / len(scores)
    if finished:
        winner = candidates - 1
        happened.append(_climbed("prompts", winner, 1, asked))
        findings = _findings(text, means, winner, asked, sizes)
        made = {"created": "2026-01-01T00:00:00+00:00", "versions": {"progspace": "0.1.0"}}
        happened.append(
            _event("finished", asked, findings=findings.to_dict(), provenance=made, winner=winner, front=[0, winner])
        )
    add_events(store, search.id, happened, first=0)
    return next(each for each in searches(store) if each.id == search.id)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _event(kind: str, calls: int, **value: Any) -> Event:
    return Event(kind, {**value, "calls": calls, "seconds": calls / 10, "usd": 0.0})


def _climbed(rung: str, number: int, begun: int, calls: int) -> Event:
    spent = {
        "calls": calls,
        "bought": calls,
        "input_tokens": 60 * calls,
        "output_tokens": 2 * calls,
        "usd": 0.0,
        "seconds": 1.0,
    }
    told = {"kept": True, "shrunken": 0.5, "reason": "better" if begun else "", "stopped": None, "spent": spent}
    return _event("climbed", calls, rung=rung, candidate=number, **told)


def _measured(score: float, n: int) -> Measured:
    return Measured(
        score=score, low=max(0.0, score - 0.05), high=min(1.0, score + 0.05), level=0.95, method="drawn", n=n, failed=0,
        errors=0, calls=1, tokens=62,
    )  # fmt: skip


def _findings(text: str, means: Mapping[int, float], winner: int, calls: int, sizes: Any) -> Findings:
    gain = means[winner] - means[0]
    against = Verdict(
        difference=gain, low=gain - 0.05, high=gain + 0.05, p_value=0.0001, wins=9, losses=1, method="drawn"
    )
    rungs = tuple(
        RungReport(
            name=name, choice=f"{number}: {text}"[:80], kept=True, candidates=len(means),
            dev=_measured(means[number], 10),
            shrunken=means[number], test=_measured(means[number], 10), versus_baseline=against if number else None,
            calls=calls, bought=calls, input_tokens=60 * calls, output_tokens=2 * calls, seconds=1.0,
            tried=(Tried(choice=text[:80], proposer="rules", score=means[number], n=10, tokens=62),),
        )
        for name, number in (("baseline", 0), ("prompts", winner))
    )  # fmt: skip
    front = (Point(choice=text[:80], score=means[winner], tokens=62),)
    return Findings(
        task=f"page {text}"[:60],
        lm="rule/one",
        seed=0,
        sizes=sizes,
        rungs=rungs,
        front=front,
        test_calls=20,
        test_reads=1,
    )


if __name__ == "__main__":
    main()
