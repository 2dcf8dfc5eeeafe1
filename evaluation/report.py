"""The report of a compile: its findings, and how they are shown."""

from __future__ import annotations

from pathlib import Path

from .findings import Findings
from .rendering import report_page, report_text

__all__ = ["Report"]


class Report(Findings):
    """Findings that a person can read: ``print(report)`` gives the ladder as a table."""

    def __str__(self) -> str:
        return report_text(self)

    def to_html(self, path: str | Path) -> None:
        """Writes the report as one page that needs nothing else."""
        Path(path).write_text(report_page(self), encoding="utf-8")
