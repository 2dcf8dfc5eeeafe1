"""What it takes to start an app with a compiled program: time and memory, against ``import dspy`` alone.

    python -m progspace.benchmarks.cold_start

Each start is a process of its own; the ways take turns. Seconds are on the clock and of the CPU (from the interpreter's
start): on a busy machine the second tells more. Linux, for the peak of memory. The LM
answers at once, so that what is measured is the imports, the reading of the file, and the first call.
``dspy.load_state`` is the same program as DSPy keeps it: a class in the app's code, its state from JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy

from ..artifacts.artifact import Artifact, Provenance, write_artifact
from ..evaluation.findings import Findings
from ..programs.candidate import Candidate
from ..programs.formats import Decoding, Format
from ..programs.sentiment import Sentiment
from ..programs.structure import describe
from .results import write_results

__all__ = ["main", "sample_artifact"]

_ENGINE = """
from dspy.lm15 import Message, Response, Usage
class Engine:
    def complete(self, request):
        text = ANSWER
        return Response(None, request.model, Message.assistant(text), "stop", Usage(1, 1))
lm = dspy.LM("instant/one", engine=Engine(), cache=False)
"""
_MEASURE = """
import json, re, time
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps([time.perf_counter() - began, time.process_time(), int(peak[1]) / 1024]))
"""
_CHAT = "[[ ## sentiment ## ]]\\npositive\\n\\n[[ ## completed ## ]]"
WAYS = {
    "import dspy": "import dspy\n",
    "dspy.load_state, first answer": f"""
import dspy
from typing import Literal
class Sentiment(dspy.Signature):
    review: str = dspy.InputField()
    sentiment: Literal["negative", "positive"] = dspy.OutputField()
program = dspy.Predict(Sentiment)
program.load(STATE)
{_ENGINE.replace("ANSWER", repr(_CHAT).replace(chr(92) * 2, chr(92)))}
with dspy.context(lm=lm):
    assert program(review="A joy.").sentiment == "positive"
""",
    "ps.load, first answer": f"""
import dspy
import progspace as ps
{_ENGINE.replace("ANSWER", repr("positive"))}
assert ps.load(ARTIFACT, lm=lm)(review="A joy.").sentiment == "positive"
""",
}
_DEMONSTRATIONS = 16


def sample_artifact(folder: Path, decoding: Decoding = "free") -> Path:
    """Writes an artifact of the sentiment task as a compile would, with demonstrations; no search is run for it."""
    program = dspy.Predict(Sentiment)
    shown = tuple({"review": f"Review {n}: a joy.", "sentiment": "positive"} for n in range(_DEMONSTRATIONS))
    return write_artifact(
        Artifact(
            task="sentiment",
            structure=describe(program),
            candidate=Candidate.declared(program).with_choice(
                format=Format(kind="compact", decoding=decoding), demonstrations=shown
            ),
            lm={"model": "instant/one"},
            provenance=Provenance(),
            report=Findings(task="sentiment", lm="instant/one", seed=0, sizes={}, rungs=()),
        ),
        folder / "sentiment.progspace.json",
    )


def measure(starts: int) -> list[dict[str, Any]]:
    """Starts each way so often, in turns; medians of seconds, CPU seconds and peak memory in MB."""
    taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        artifact, state = sample_artifact(Path(folder)), Path(folder, "state.json")
        kept = dspy.Predict(Sentiment)
        kept.demos = [dspy.Example(review=f"Review {n}: a joy.", sentiment="positive") for n in range(_DEMONSTRATIONS)]
        kept.save(str(state))
        for _ in range(starts + 1):
            for way, code in WAYS.items():
                named = code.replace("ARTIFACT", repr(str(artifact))).replace("STATE", repr(str(state)))
                whole = f"import time\nbegan = time.perf_counter()\n{named}{_MEASURE}"
                run = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)  # noqa: S603 — our own code
                taken[way].append(json.loads(run.stdout.splitlines()[-1]))
    runs = []
    for way, measured in taken.items():
        seconds, cpu, memory = zip(*measured[1:], strict=True)  # the first warmed the disk's cache
        runs.append(
            {
                "way": way,
                "starts": starts,
                "seconds": round(statistics.median(seconds), 3),
                "cpu_seconds": round(statistics.median(cpu), 3),
                "peak_mb": round(statistics.median(memory), 1),
                "load": round(os.getloadavg()[0], 1),
            }
        )
    return runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=15, help="of each way")
    runs = measure(parser.parse_args(arguments).starts)
    for run in runs:
        print(f"{run['way']:32} {run['seconds']:.2f} s, {run['cpu_seconds']:.2f} s of CPU  {run['peak_mb']:.0f} MB")
    write_results("cold_start", runs)


if __name__ == "__main__":
    main()
