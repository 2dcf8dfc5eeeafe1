"""The report as a picture, for papers and slides: the ladder with its intervals, and quality against tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from . import numbers
from .findings import Findings, RungReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_report"]

_FORMATS = (".png", ".svg", ".pdf")
_MARK, _DIM = "#0b62a8", "#7b8794"


def draw_report(findings: Findings, path: Path) -> None:
    """Draws the ladder and what programs take, side by side, into a PNG, SVG or PDF file.

    Raises:
        DataError: The file is of another kind, cannot be written, or matplotlib is missing.
    """
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f"a picture is one of {', '.join(_FORMATS)}", file=str(path))
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("plots need matplotlib: pip install 'progspace[plots]'") from error
    figure = Figure(figsize=(10, 1.4 + 0.55 * max(4, len(findings.rungs))), layout="constrained")
    left, right = figure.subplots(1, 2)
    _ladder(left, findings)
    _front(right, findings)
    figure.suptitle(f"{findings.task}: {findings.lm}, seed {findings.seed}", fontsize=11)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error})", file=str(path)) from error


def _colour(rung: RungReport, findings: Findings) -> str:
    return _MARK if rung is findings.winner else _DIM


def _ladder(axes: Any, findings: Findings) -> None:
    for place, rung in enumerate(findings.rungs):
        measured, colour = rung.test or rung.dev, _colour(rung, findings)
        axes.plot([100 * measured.low, 100 * measured.high], [place, place], color=colour, linewidth=2)
        axes.plot([100 * measured.score], [place], "o", color=colour, fillstyle="full" if rung.kept else "none")
        told = numbers.percent(measured.score)
        axes.annotate(told, (100 * measured.score, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(findings.rungs)), [rung.name for rung in findings.rungs])
    axes.set_ylim(len(findings.rungs) - 0.5, -0.7)
    split = "sealed test" if any(rung.test for rung in findings.rungs) else "dev"
    axes.set_xlabel(f"score on the {split}, %, with its interval; hollow: not kept", fontsize=9)
    _plain(axes)


def _front(axes: Any, findings: Findings) -> None:
    tried = [each for rung in findings.rungs for each in rung.tried]
    most = max((each.n for each in tried), default=0)
    shown = [each for each in tried if 2 * each.n >= most]
    axes.scatter([each.tokens for each in shown], [100 * each.score for each in shown], s=14, color=_DIM, alpha=0.5)
    front = sorted(findings.front, key=lambda each: each.tokens)
    axes.step([each.tokens for each in front], [100 * each.score for each in front], where="post", color=_MARK)
    axes.scatter([each.tokens for each in front], [100 * each.score for each in front], s=24, color=_MARK)
    axes.set_xlabel("tokens an example; line: Pareto front", fontsize=9)
    axes.set_ylabel("score on dev, %", fontsize=9)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
