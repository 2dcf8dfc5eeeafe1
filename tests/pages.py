"""The blocks of a Markdown page, read by the parser that the site is made with, and what they name."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from markdown_it import MarkdownIt
from typer.main import get_command

from progspace.cli import app

NOT_RUN = re.compile(r"# Not run here: \w")
"""The first line of a block that needs a key, a server or hours; its names are checked all the same."""
FILE = re.compile(r"# ([\w-]+\.\w+)\n")
"""The first line of a block that is a file, and is written as one."""
UNSEEN = re.compile(r"<!-- python\n(.*?)-->", re.DOTALL)
"""What the page takes for granted: run, and not shown."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: The file that it stands in.
        line: Of its first line of code in the page, from 1.
        language: python, console, …
        code: Its text.
    """

    page: Path
    line: int
    language: str
    code: str

    @property
    def runs(self) -> bool:
        return NOT_RUN.match(self.code) is None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        line = (token.map or [0])[0] + 2
        if token.type == "fence":
            found.append(Block(page, line, token.info.strip(), token.content))
        elif token.type == "html_block" and (unseen := UNSEEN.match(token.content)):
            found.append(Block(page, line, "python", unseen[1]))
    return [block for block in found if block.language in languages]


def compiled(block: Block) -> Any:
    """Its code, at its own lines of the page; ``await`` may stand at the top, as in a notebook."""
    return compile(
        "\n" * (block.line - 1) + block.code,
        str(block.page),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )


def run(block: Block, names: dict[str, Any]) -> None:
    """Runs a block in the page's names; one that is a file is written into the working folder first."""
    if file := FILE.match(block.code):
        Path(file[1]).write_text(block.code, encoding="utf-8")
    code = compiled(block)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))  # noqa: S307 — our own page
    else:
        exec(code, names)  # noqa: S102 — our own page


class Names:
    """What a page has imported of progspace and DSPy so far; finds names and arguments that are not there."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {"ps": importlib.import_module("progspace")}

    def faults(self, block: Block) -> Iterator[str]:
        """Tells of each name that does not exist, and each argument that is not taken."""
        tree = ast.parse(block.code)
        for node in ast.walk(tree):
            try:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self._import(node)
                elif isinstance(node, ast.Attribute):
                    self._value(node)
                elif isinstance(node, ast.Call):
                    self._called(node)
            except (AttributeError, ImportError, TypeError) as error:
                yield f"{block.page.name}:{block.line + getattr(node, 'lineno', 1) - 1}: {error}"

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        origin = node.module if isinstance(node, ast.ImportFrom) else None
        for alias in node.names:
            if not (origin or alias.name).startswith(("progspace", "dspy")):
                continue
            if origin:
                module = importlib.import_module(origin)
                found = getattr(module, alias.name, None)
                self._known[alias.asname or alias.name] = found or importlib.import_module(f"{origin}.{alias.name}")
            else:
                self._known[alias.asname or alias.name] = importlib.import_module(alias.name)

    def _value(self, node: ast.expr) -> Any:
        """What a dotted name is, where it begins with what was imported; None for what is unknown."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(origin := self._value(node.value), ModuleType):
            return getattr(origin, node.attr)
        return None

    def _called(self, node: ast.Call) -> None:
        function = self._value(node.func)
        starred = any(isinstance(each, ast.Starred) for each in node.args) or any(
            not each.arg for each in node.keywords
        )
        if function is None or starred or not getattr(function, "__module__", "").startswith("progspace"):
            return
        given = {str(each.arg): None for each in node.keywords}
        try:
            inspect.signature(function).bind(*node.args, **given)
        except TypeError as error:
            raise TypeError(f"{ast.unparse(node.func)}: {error}") from error


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a console block."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        words = words[: words.index("|")] if "|" in words else words
        if words:
            yield words


def options_of(words: list[str]) -> set[str]:
    """The options of the command that some words name."""
    command: Any = get_command(app)
    options = {"--help"} | {option for each in command.params for option in each.opts}
    for word in words[1:]:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        assert word in command.commands, f"there is no command {word!r}"
        command = command.commands[word]
        options = {"--help"} | {option for each in command.params for option in [*each.opts, *each.secondary_opts]}
    return options
