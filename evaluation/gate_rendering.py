"""Draws a gate: for a terminal, as Markdown for a pull request, as JUnit for a CI server."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as Xml

from rich.console import Group, RenderableType
from rich.text import Text

from . import numbers
from .gate import Change, Gate
from .rendering import comparison_view

__all__ = ["changes_view", "gate_junit", "gate_markdown", "gate_view"]

_SHOWN = 10
_IN_SUMMARY = 50  # a step's summary holds a megabyte
_LONGEST = 300
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKS = {"no worse": "✅", "worse": "❌", "cannot tell": "❔"}


def gate_view(gate: Gate) -> RenderableType:
    """The two programs, the verdict, and what broke."""
    lines = [Text(line) for line in gate.lines]
    style = {"no worse": "green", "worse": "red"}.get(gate.verdict, "yellow")
    lines[0].stylize(style)
    return Group(comparison_view(gate.comparison), *lines, *_listed(gate.broken, "broke"))


def changes_view(name: str, gate: Gate, *, all_rows: bool = True) -> RenderableType:
    """What a change did, and to which examples.

    Args:
        name: Of the change.
        gate: The program with it against the one without.
        all_rows: Whether to show the examples in full.
    """
    line = (
        f"{name}: {numbers.points(gate.test.difference)} points on {numbers.count(gate.test.n)} rows; "
        f"{len(gate.broken)} broke, {len(gate.mended)} were mended ({gate.verdict})."
    )
    if all_rows:
        return Group(Text(line), *_listed(gate.broken, "broke"), *_listed(gate.mended, "were mended"))
    ids = [(told, [change.example for change in of]) for told, of in (("broke", gate.broken), ("mended", gate.mended))]
    return Group(Text(line), *(Text(f"  {told}: {', '.join(each)}") for told, each in ids if each))


def _listed(changes: Sequence[Change], how: str) -> list[Text]:
    shown = [Text(_told(change)) for change in changes[:_SHOWN]]
    more = f"The first {len(shown)} of {len(changes)}" if len(changes) > len(shown) else "All"
    return [Text(f"{more} that {how}:"), *shown] if shown else []


def _told(change: Change) -> str:
    said = f" ({_short(change.said)})" if change.said else ""
    return (
        f"{change.example}  {_values(change.inputs)}\n"
        f"    old {change.old_score:g}: {_values(change.old)}\n"
        f"    new {change.new_score:g}: {_values(change.new)}{said}"
    )


def _values(values: Mapping[str, Any]) -> str:
    return _short(", ".join(f"{name}: {value}" for name, value in values.items())) or "nothing"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def gate_markdown(gate: Gate) -> str:
    """The verdict as Markdown; what programs and examples say is escaped, and stays text.

    Raw HTML holds it, which Markdown leaves alone up to a blank line: nothing in it becomes a link or a picture.
    """
    verdict, *lines = gate.lines
    sides = "".join(
        f"<tr><td>{_escaped(side.name)}</td><td>{numbers.percent(side.score)}</td>"
        f"<td>{numbers.interval(side.interval)}</td><td>{numbers.count(side.n)}</td>"
        f"<td>{numbers.count(side.tokens_per_example)}</td></tr>\n"
        for side in (gate.comparison.a, gate.comparison.b)
    )
    parts = [
        f"<h3>{_MARKS[gate.verdict]} {_escaped(verdict)}</h3>",
        "<table>\n<tr><th>program</th><th>score</th><th>95 %</th><th>rows</th><th>tokens/row</th></tr>\n"
        f"{sides}</table>",
        *(f"<p>{_escaped(line)}</p>" for line in lines),
    ]
    if gate.broken:
        rows = "".join(
            f"<tr><td>{_escaped(_values(change.inputs))}</td><td>{_escaped(_values(change.expected))}</td>"
            f"<td>{_escaped(_values(change.old))}</td><td>{_escaped(_values(change.new))}</td></tr>\n"
            for change in gate.broken[:_IN_SUMMARY]
        )
        more = len(gate.broken) - _IN_SUMMARY
        parts.append(
            f"<details><summary>What broke: {len(gate.broken)}</summary>\n<table>\n"
            f"<tr><th>inputs</th><th>expected</th><th>old</th><th>new</th></tr>\n{rows}</table>\n"
            + (f"… and {more} more\n" if more > 0 else "")
            + "</details>"
        )
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return html.escape(" ".join(_NOT_XML.sub("�", text).split()))


def gate_junit(gate: Gate, *, cannot_tell: bool = False) -> str:
    """The gate as JUnit's XML: a case for the verdict, and one for each row that broke.

    Where the gate passes, rows that broke are told as skipped: they are within what is put up with.

    Args:
        gate: What is told.
        cannot_tell: Whether it passes where nothing is shown either way.
    """
    passes = gate.passes(cannot_tell=cannot_tell)
    name = f"progspace compare {gate.comparison.a.name} {gate.comparison.b.name}"
    suite = Xml.Element("testsuite", {"name": _clean(name), "errors": "0"})
    told = "\n".join(gate.lines)
    verdict = Xml.SubElement(suite, "testcase", {"classname": "progspace.gate", "name": "no worse"})
    if not passes:
        Xml.SubElement(verdict, "failure", {"message": _clean(gate.lines[0]), "type": gate.verdict}).text = _clean(told)
    elif gate.verdict != "no worse":
        Xml.SubElement(verdict, "skipped", {"message": _clean(gate.lines[0])})
    Xml.SubElement(verdict, "system-out").text = _clean(told)
    for change in gate.broken:
        case = Xml.SubElement(suite, "testcase", {"classname": "progspace.gate.rows", "name": _clean(change.example)})
        kind = "skipped" if passes else "failure"
        Xml.SubElement(case, kind, {"message": "scored lower than before"}).text = _clean(_told(change))
    for kind, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        suite.set(kind, str(len(suite.findall(tag))))
    suites = Xml.Element("testsuites")
    suites.append(suite)
    Xml.indent(suites)
    text: str = Xml.tostring(suites, encoding="utf-8", xml_declaration=True).decode()
    return text + "\n"


def _clean(text: str) -> str:
    """XML 1.0 has no control characters, whatever an LM writes."""
    return _NOT_XML.sub("�", text)
