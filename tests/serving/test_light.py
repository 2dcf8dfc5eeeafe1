"""What an app that only runs a compiled program has to import: read from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

APP = """
import asyncio, json, sys
import dspy
from dspy.lm15 import Message, Response, Usage
import progspace as ps

class Engine:
    def complete(self, request):
        return Response(None, request.model, Message.assistant("hello"), "stop", Usage(1, 1))

class Async:
    async def complete(self, request):
        return Engine().complete(request)

given = {} if "openai" in sys.argv else {
    "lm": dspy.LM("rule/one", engine=Engine(), async_engine=Async(), cache=False)
}
program = ps.guarded(ps.load(sys.argv[1], **given), timeout=60, retries=1, fallbacks=[{"echo": None}])
if given:
    assert program(text="a").echo == "hello"
    assert asyncio.run(program.acall(text="a")).echo == "hello"
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "gguf", "litellm", "mcp", "numpy", "openvino", "openvino_genai", "optuna", "pandas", "qdrant_client", "qdrant_edge",
    "rich", "safetensors", "scipy", "sqlalchemy", "starlette", "tokenizers", "torch", "typer", "uvicorn",
}  # fmt: skip
OURS = ("progspace.optimizers", "progspace.compiler", "progspace.store", "progspace.evaluation.matrix", "progspace.cli")


def loaded(*arguments: str) -> set[str]:
    run = subprocess.run([sys.executable, "-c", APP, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_a_program_that_runs_has_imported_no_search(artifact: Callable[..., Path]) -> None:
    modules = loaded(str(artifact()))
    assert "progspace.serving.guard" in modules
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(OURS)]


def test_nor_has_one_that_is_to_run_on_an_endpoint(artifact: Callable[..., Path]) -> None:
    modules = loaded(str(artifact(lm={"model": "openai/gpt-4o-mini", "settings": {"temperature": 0.0}})), "openai")
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(OURS)]
