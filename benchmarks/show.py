"""What was measured: tables, charts, wins and losses of results, in a terminal or as a page.

    progspace benchmark show
    progspace benchmark show core peers --html results.html --open
    progspace benchmark show my_results.jsonl --compare my_results_of_last_month.jsonl
    progspace benchmark show peers --json

A name is a suite's in the folder of results, or a file of JSON Lines, one line a run. Without one, the terminal shows
what there is, and the page shows everything: one file that needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import DataError
from ..evaluation.page.html import write_page
from .results import RESULTS, read_runs
from .shown.cards import Card
from .shown.content import Results, Suite
from .shown.reading import fits
from .shown.rendering import overview, results_page, results_view
from .shown.suites import suite

__all__ = ["main"]

_PIPE = 120  # characters of a line, where there is no terminal


def main(argv: Sequence[str] | None = None) -> None:
    """Shows results.

    Raises:
        DataError: There are none of that name, or a line of them is damaged.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SUITE|FILE", help="all that there are by default")
    parser.add_argument("--html", type=Path, help="write a page: one file")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="score cards of an earlier version")
    parser.add_argument("--json", action="store_true", help="one JSON document: verdicts, and the runs as they are")
    arguments = parser.parse_args(argv)
    before = read_runs(arguments.compare) if arguments.compare else []
    runs = [(path, read_runs(path)) for path in _paths(arguments.names)]
    if arguments.compare and not any(fits(Card, lines) for _, lines in runs):
        raise DataError("only score cards are compared, and none is shown; `progspace benchmark core` makes them")
    shown = [(suite(path.stem, path.name, lines, before), lines) for path, lines in runs]
    if not arguments.names:  # what was compared comes first
        shown.sort(key=lambda each: not each[0].verdicts)
    results = Results(suites=tuple(each for each, _ in shown))
    page: Path | None = arguments.html or (Path(".progspace", "results.html") if arguments.open else None)
    if page is not None:
        write_page(results_page(results), page)
        Console(stderr=True).print(f"page: {page}", highlight=False)
        if arguments.open:
            webbrowser.open(page.resolve().as_uri())
    if arguments.json:
        sys.stdout.write(json.dumps(_document(shown), ensure_ascii=False, indent=2) + "\n")
    elif page is None:
        console = Console(width=None if sys.stdout.isatty() else _PIPE)
        console.print(results_view(results) if arguments.names else overview(results), highlight=False)


def _paths(names: Sequence[str]) -> list[Path]:
    there = {path.stem: path for path in sorted(RESULTS.glob("*.jsonl"))}
    if not names and not there:
        raise DataError("no results come with this installation: name a file of them")
    found = []
    for name in names or there:
        if name not in there and not Path(name).is_file():
            raise DataError(f"there are no results of {name!r}; name a file, or one of {', '.join(there) or 'none'}")
        found.append(there[name] if name in there else Path(name))
    return found


def _document(shown: Sequence[tuple[Suite, Any]]) -> dict[str, Any]:
    told = {"name", "file", "about", "rule", "verdicts"}
    return {"suites": [{**each.model_dump(include=told), "runs": lines} for each, lines in shown]}


if __name__ == "__main__":
    main()
