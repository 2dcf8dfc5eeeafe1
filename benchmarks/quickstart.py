"""``make quickstart``: compiles the ready-made sentiment task on the embedded LM, saves it, loads it, uses it."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

import progspace as ps

from ..evaluation import numbers
from ..evaluation.rendering import report_view
from ..programs import sentiment
from ..progress import CompileProgress

ARTIFACT = Path("sentiment.progspace.json")
STORE = Path(".progspace/quickstart.db")
REVIEWS = (
    "A joy from start to finish.",
    "The jokes are stale and I wanted my evening back.",
    "It begins badly and it takes its time, but the last half hour is a marvel.",
)


def main() -> None:
    """Runs the quickstart; run again, it buys nothing."""
    logging.getLogger("dspy").setLevel(logging.ERROR)
    console = Console()
    console.print("Searching for a better sentiment program on the embedded LM (SmolLM2-135M) …", highlight=False)
    with CompileProgress(Console(stderr=True)) as progress:
        compiled = ps.compile(
            sentiment.task(), lm=ps.lm("local"), budget=ps.Budget(calls=600), store=STORE, progress=progress
        )
    console.print(report_view(compiled.report))
    path = compiled.save(ARTIFACT)
    page = STORE.parent / "quickstart.html"
    compiled.report.to_html(page)
    console.print(
        f"\nCompiled in {numbers.duration(compiled.report.seconds)}. Saved: {path}; the report as a page: {page}\n",
        highlight=False,
    )
    program = ps.load(path)
    for review in REVIEWS:
        console.print(f"  {program(review=review).sentiment:<8}  {review}", highlight=False)


if __name__ == "__main__":
    main()
