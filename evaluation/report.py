"""The report of a compile: its findings, and how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from .findings import Findings
from .page.content import PageContent
from .page.html import html_page, write_page
from .page.reading import content_of
from .plots import draw_report
from .rendering import report_view
from .shown import Shown

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report"]


class Report(Shown, Findings):
    """Findings that a person can read: ``print(report)`` gives the ladder as a table."""

    _content: PageContent | None = PrivateAttr(default=None)

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        return report_view(self)

    def plot(self, path: str | Path) -> None:
        """Draws the ladder and the Pareto front as a PNG, SVG or PDF file.

        Raises:
            DataError: The file is of another kind, cannot be written, or matplotlib is missing.
        """
        draw_report(self, Path(path))

    def showing(self, content: PageContent) -> Report:
        """Gives the report whose page shows that content: the search as it ran, beside the findings."""
        shown = self.model_copy()
        shown._content = content
        return shown

    def to_html(self, path: str | Path) -> None:
        """Writes the report as one page that needs nothing else.

        Raises:
            DataError: It cannot be written.
        """
        write_page(html_page(self._content or content_of(self)), Path(path))
