"""What prints itself: as text for a terminal or a pipe, as HTML in a notebook."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Shown", "as_html", "as_text"]


def as_text(view: RenderableType, width: int = 110) -> str:
    """Gives what a terminal of that width would show, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(view, crop=False)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def as_html(view: RenderableType, width: int = 110) -> str:
    """Gives the same for a notebook; what stands in it is escaped."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, record=True, highlight=False)
    console.print(view, crop=False)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


class Shown:
    """Is printed, and shown in a notebook, as its ``view`` is drawn."""

    __slots__ = ()

    def view(self) -> RenderableType:
        """What a person is shown, as rich draws it."""
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self.view())

    def _repr_html_(self) -> str:
        return as_html(self.view())
