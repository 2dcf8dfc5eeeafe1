"""What `ps.monitor` found, as one page of plain HTML and SVG: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..evaluation.numbers import count, percent
from .quality import FALSE_ALARMS, WITHIN, Quality, Stream
from .rendering import summary_of, told_change

__all__ = ["page"]

_WIDTH, _HEIGHT = 240, 40
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: middle }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.changed { color: #b00020 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e6e6e6 } th, td { border-color: #444 }
  .changed { color: #ff8a95 } }
"""


def page(found: Sequence[Quality]) -> str:
    """Makes the page.

    >>> page([]).startswith("<!doctype html>")
    True
    """
    parts = [_part(quality) for quality in found] or ["<p>No call has left a trace yet.</p>"]
    note = (
        f"A stream without a change raises an alarm within {WITHIN:,} calls with a probability of at most "
        f"{percent(FALSE_ALARMS)}. Dashed: the reference."
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>progspace monitor</title>'
        f"<style>{_STYLE}</style></head><body>\n{''.join(parts)}<p>{note}</p>\n</body></html>\n"
    )


def _part(quality: Quality) -> str:
    alarms = "".join(
        f'<li class="changed"><b>{escape(stream.name)}</b>: {escape(told_change(stream, stream.changes[0]))}</li>'
        for stream in quality.streams
        if stream.changes
    )
    head = "".join(
        f"<th{' class=n' if right else ''}>{name}</th>"
        for name, right in (("", 0), ("calls", 1), ("all", 1), ("latest", 1), ("reference", 1), ("course", 0))
    )
    rows = "".join(_row(stream) for stream in quality.streams)
    return (
        f"<h1>{escape(quality.name)}</h1>\n<p>{escape(summary_of(quality))}</p>\n"
        + (f"<ul>{alarms}</ul>\n" if alarms else "<p>No change was detected.</p>\n")
        + f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n"
    )


def _row(stream: Stream) -> str:
    numbers = (
        count(stream.n),
        percent(stream.mean),
        percent(stream.latest),
        "before" if stream.reference is None else percent(stream.reference),
    )
    cells = "".join(f"<td class=n>{each}</td>" for each in numbers)
    changed = " class=changed" if stream.changes else ""
    return f"<tr><td{changed}>{escape(stream.name)}</td>{cells}<td>{_chart(stream)}</td></tr>\n"


def _chart(stream: Stream) -> str:
    known = [*stream.course, *([] if stream.reference is None else [stream.reference])]
    low, high = min(known), max(known)
    span = (high - low) or 1.0

    def height(value: float) -> float:
        return round(_HEIGHT - 3 - (_HEIGHT - 6) * (value - low) / span, 1)

    step = _WIDTH / max(1, len(stream.course) - 1)
    line = " ".join(f"{round(place * step, 1)},{height(value)}" for place, value in enumerate(stream.course))
    dashed = ""
    if stream.reference is not None:
        y = height(stream.reference)
        dashed = (
            f'<line x1="0" y1="{y}" x2="{_WIDTH}" y2="{y}" stroke="currentColor" opacity=".5" stroke-dasharray="4"/>'
        )
    title = escape(f"{stream.name}: from {percent(low)} to {percent(high)}")
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>{dashed}'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
