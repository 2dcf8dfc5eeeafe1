"""Puts a page together: one file that needs nothing else, in which data stays data."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from ...errors import DataError
from ...lms.files import replace_text
from .content import PageContent

__all__ = ["assemble", "html_page", "json_of", "write_page"]

_SHARED = ("dom.js", "frame.js")
_REPORT = ("charts.js", "matrix.js", "details.js", "page.js")


def html_page(content: PageContent, *, live: bool = False) -> str:
    """Gives the report as one HTML page.

    Args:
        content: What it shows.
        live: Whether it asks the server that gave it for what is new.
    """
    script = "".join(map(_part, _REPORT))
    return assemble(content, script, title=content.task, plain="\n".join(content.lines), live=live)


def assemble(content: BaseModel, script: str, *, title: str, plain: str, live: bool = False) -> str:
    """Gives one HTML page that a script draws from content, in the style that all pages share.

    What comes from examples, prompts and LMs stands in it as JSON, and its script shows it as text; a policy lets the
    browser run and style nothing but the page's own script and style, and load nothing.

    Args:
        content: What it shows.
        script: Draws it into ``#head`` and ``#main``; ``dom.js`` and ``frame.js`` stand before it.
        title: Of the page.
        plain: What is shown where no script runs.
        live: Whether it asks the server that gave it for what is new.
    """
    style, script = _part("page.css"), "".join(map(_part, _SHARED)) + script
    reached = "'self'" if live else "'none'"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; connect-src {reached}; "
        "base-uri 'none'; form-action 'none'"
    )
    filled = {
        "policy": html.escape(policy),
        "title": html.escape(f"{title} · progspace"),
        "plain": html.escape(plain),
        "live": " data-live" if live else "",
        "data": json_of(content),
        "style": style,
        "script": script,
    }
    parts = _part("page.html").split("§")
    page = "".join(filled[part] if index % 2 else part for index, part in enumerate(parts))
    return page.encode("utf-8", "replace").decode()  # of half characters in the title and the lines


def write_page(page: str, path: Path) -> None:
    """Writes a page, whole or not at all, into a folder that is made where it is missing.

    Raises:
        DataError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, page)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error})", file=str(path)) from error


def json_of(content: BaseModel) -> str:
    """Gives the content as JSON that may stand inside a script element: nothing in it can end one."""
    try:
        text = content.model_dump_json()
    except PydanticSerializationError:
        text = json.dumps(content.model_dump(mode="json"))  # half characters, which are no UTF-8, escaped
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
