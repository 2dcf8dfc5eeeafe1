"""The command line as a person uses it: `main` itself, with streams, a folder and an exit status of its own."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from progspace.cli import main


def progspace(
    *arguments: str, folder: Path, stdin: str = "", encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """Runs in this process: a new one takes seconds to import what it needs, and more to load the embedded LM."""
    status, err = 0, io.StringIO()
    out = io.TextIOWrapper(written := io.BytesIO(), encoding=encoding, newline="\n", write_through=True)
    # A process takes with it what it sets.
    levels = {each: each.level for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        for name, value in {
            "argv": ["progspace", *arguments], "path": list(sys.path), "stdin": io.StringIO(stdin), "stdout": out,
            "stderr": err,
        }.items():  # fmt: skip
            patch.setattr(sys, name, value)
        try:
            main()
        except SystemExit as left:
            status = int(left.code or 0)
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
    return subprocess.CompletedProcess(arguments, status, written.getvalue().decode(encoding), err.getvalue())
