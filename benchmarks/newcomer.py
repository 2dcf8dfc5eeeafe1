"""A newcomer's path, timed: from a clone to a first result, and from a file of one's own to a program in an app.

    python -m progspace.benchmarks.newcomer

Clones this repository into an empty folder and types what the README says, with nothing else at hand than Python,
``make`` and a package index. The file is 150 rows of our own reviews as CSV. What each command took on the clock is
printed and written to ``results/newcomer.jsonl``; reading and thinking are not in it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from .results import write_results

ROWS, CALLS = 150, 500

TASK = """\
from typing import Literal
import dspy, progspace as ps


class Sentiment(dspy.Signature):
    \"\"\"Classify the sentiment of a movie review.\"\"\"

    text: str = dspy.InputField()
    label: Literal["positive", "negative"] = dspy.OutputField()


task = ps.Task(
    program=dspy.Predict(Sentiment), examples="reviews.csv", metric=ps.metrics.choice("label"), name="reviews"
)
"""

APP = """\
import progspace as ps

program = ps.load("reviews.progspace.json")
print(program(text="A joy from start to finish.").label)
"""


def main() -> None:
    """Walks the path; prints the times and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default=str(Path(__file__).resolve().parent.parent))
    parser.add_argument("--calls", type=int, default=CALLS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone, own = Path(folder, "progspace"), Path(folder, "mine")
        own.mkdir()
        _reviews(own / "reviews.csv")
        (own / "mine.py").write_text(TASK, encoding="utf-8")
        (own / "app.py").write_text(APP, encoding="utf-8")
        binaries = clone / ".venv/bin"
        compiling = ["compile", "mine.py:task", "--calls", str(arguments.calls), "--out", "reviews.progspace.json"]
        steps: list[tuple[str, list[str], Path]] = [
            ("git clone", ["git", "clone", "--quiet", arguments.repository, str(clone)], Path(folder)),
            ("make quickstart", ["make", "quickstart"], clone),
            ("progspace " + " ".join(compiling), [str(binaries / "progspace"), *compiling], own),
            ("python app.py", [str(binaries / "python"), "app.py"], own),
        ]
        lines = [_timed(number, *step) for number, step in enumerate(steps, 1)]
    write_results("newcomer", lines)
    for line in lines:
        print(f"{line['seconds']:7.1f} s  {line['command']}")
    print(f"{sum(line['seconds'] for line in lines) / 60:7.1f} min in all; the app said: {lines[-1]['said']}")


def _reviews(path: Path) -> None:
    text = files("progspace.programs").joinpath("data/sentiment.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()][:ROWS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row["review"], row["sentiment"]] for row in rows)


def _timed(number: int, told: str, command: list[str], folder: Path) -> dict[str, Any]:
    print(f"$ {told}", file=sys.stderr, flush=True)
    # Nothing of the environment in which this very script runs.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    sys.stderr.write(done.stdout)
    said = done.stdout.strip().splitlines()
    return {
        "step": number,
        "command": told,
        "seconds": round(time.monotonic() - started, 1),
        "said": said[-1] if said else "",
    }


if __name__ == "__main__":
    main()
