"""A program as a tool over MCP, with the official SDK."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import redirect_stdout
from typing import Any

import anyio
import dspy
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from ..programs.program import acall
from .interface import faults, interface_of

__all__ = ["run", "server"]

_log = logging.getLogger(__name__)


def server(program: dspy.Module, *, name: str, description: str | None = None, seconds: float = 60.0) -> Server[Any]:
    """Makes an MCP server of one tool, which takes the program's inputs and gives its outputs.

    Args:
        program: From ``ps.load``, or any module.
        name: Of the tool; what is no letter, digit, ``_`` or ``-`` becomes ``_``.
        description: What the program does; by default what its author wrote.
        seconds: A call that takes longer is an error.

    Raises:
        ProgramError: The program's fields cannot be told as JSON Schema.
    """
    interface = interface_of(program)
    tool = types.Tool(
        name=re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "program",
        description=interface.description if description is None else description,
        input_schema=interface.inputs.json_schema(),
        output_schema=interface.outputs.json_schema(mode="serialization"),
    )

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name != tool.name:
            return _told(f"there is no tool {params.name!r}, only {tool.name!r}", failed=True)
        try:
            inputs = interface.read(to_json(params.arguments or {}, inf_nan_mode="constants"))
        except ValidationError as error:
            told = "; ".join(f"{each['field']}: {each['message']}" for each in faults(error))
            return _told(told or f"{error.error_count()} faults in the arguments", failed=True)
        except ValueError as error:
            return _told(f"the arguments are not JSON: {error}", failed=True)
        try:
            with anyio.fail_after(seconds), dspy.context(disable_history=True):
                text = interface.write(await acall(program, **inputs))
        except Exception as error:
            # Not its message: that may quote prompts.
            _log.error("a call failed: %s", type(error).__name__)
            return _told(f"no answer: {type(error).__name__}", failed=True)
        return _told(text.decode(), structured=from_json(text))

    return Server(tool.name, on_list_tools=list_tools, on_call_tool=call_tool)


def _told(text: str, *, failed: bool = False, structured: Any = None) -> types.CallToolResult:
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=structured, is_error=failed)


def run(served: Server[Any]) -> None:
    """Speaks MCP on standard input and output until the input ends."""

    async def speak() -> None:
        async with stdio_server() as (read, write):
            with redirect_stdout(sys.stderr):  # what the program prints is no message
                await served.run(read, write, served.create_initialization_options())

    anyio.run(speak)
