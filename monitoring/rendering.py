"""What `ps.monitor` and traces look like in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..evaluation.numbers import count, duration, interval, percent
from ..evaluation.rendering import whole
from ..store.traces import Trace
from .quality import FALSE_ALARMS, WITHIN, Change, Quality, Stream

__all__ = ["quality_view", "summary_of", "told_change", "traces_view"]


def quality_view(found: Sequence[Quality]) -> RenderableType:
    """Shows the quality of programs."""
    if not found:
        return Text("no call has left a trace yet: ps.watch(program), or progspace serve --watch")
    return Group(*(part for quality in found for part in _parts(quality)))


def _parts(quality: Quality) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False)
    table.add_column("", min_width=12)
    for name in ("calls", "all", "latest", "reference", ""):
        table.add_column(name, justify="right")
    for stream in quality.streams:
        told = "before" if stream.reference is None else percent(stream.reference)
        mark = Text("CHANGED", "bold red") if stream.changes else Text("")
        table.add_row(Text(stream.name), count(stream.n), percent(stream.mean), percent(stream.latest), told, mark)
    alarms = [
        Text(f"{stream.name}: {told_change(stream, stream.changes[0])}") for stream in quality.streams if stream.changes
    ]
    note = f"A stream without a change raises an alarm within {WITHIN:,} calls with a probability of at most " + (
        f"{percent(FALSE_ALARMS)}."
    )
    return [Text(quality.name, "bold"), Text(summary_of(quality)), whole(table), *alarms, Text(note, "dim"), Text("")]


def summary_of(quality: Quality) -> str:
    """Tells the figures of a program in a few sentences."""
    p50, p95, p99 = map(duration, quality.seconds)
    version = (quality.version or "not known")[:12]
    others = f" ({quality.versions} versions)" if quality.versions > 1 else ""
    told = (
        f"Version {version}{others}. {count(quality.calls)} calls, {_when(quality.first)} to {_when(quality.last)}; "
        f"{count(quality.errors)} errors; latency {p50} (median), {p95} (95 %), {p99} (99 %); "
        f"{count(quality.tokens[0])} tokens in and {count(quality.tokens[1])} out a call."
    )
    if quality.score is not None and quality.interval is not None:
        told += (
            f" Score {percent(quality.score)} [{interval(quality.interval)}] on {count(quality.judged)} judged calls."
        )
    return told


def told_change(stream: Stream, change: Change) -> str:
    """Tells of an alarm, and how often it came again."""
    way = "lower" if stream.direction == "down" else "higher"
    new = ", the first of it" if change.new_version else ""
    version = f" with version {change.version[:12]}{new}," if change.version else ""
    again = f"; {len(stream.changes)} alarms" if len(stream.changes) > 1 else ""
    return (
        f"{way} since about {_when(change.since)},{version} detected {_when(change.detected)}, {change.calls} calls "
        f"later (trace {change.trace}){again}"
    )


def traces_view(traces: Sequence[Trace]) -> RenderableType:
    """Shows traces, a line each."""
    if not traces:
        return Text("no call has left a trace yet: ps.watch(program), or progspace serve --watch")
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=32)  # in one piece, to be copied
    for name in ("when", "program", "latency", "tokens", "score", ""):
        table.add_column(name, justify="right" if name in ("latency", "tokens", "score") else "left")
    for trace in traces:
        score = "" if trace.score is None else f"{trace.score:g}"
        tokens = count(trace.input_tokens + trace.output_tokens)
        table.add_row(
            Text(trace.id), _when(trace.created)[5:], Text(trace.name), duration(trace.seconds), tokens, score,
            Text(_marks(trace)),
        )  # fmt: skip
    return whole(table)


def _marks(trace: Trace) -> str:
    marks = [trace.error.splitlines()[0]] if trace.error else []
    marks += [f"{trace.unreadable} unreadable"] if trace.unreadable else []
    marks += [f"{trace.retries} retries"] if trace.retries else []
    marks += [f"{trace.fallbacks} fallbacks"] if trace.fallbacks else []
    marks += ["abstained"] if trace.abstained else []
    return ", ".join(marks)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
