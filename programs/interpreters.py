"""Which files it takes to run a Python interpreter, and nothing else of the machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..errors import SandboxMissing

__all__ = ["interpreter_mounts"]

_SYSTEM = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
# Asks an interpreter which files it takes to run it: its libraries, and what they in turn load from the system.
_ASK = """
import ctypes, importlib, json, os, sys

class Loaded(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]

shared = set()

@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Loaded), ctypes.c_size_t, ctypes.c_void_p)
def note(loaded, size, data):
    shared.add(os.path.abspath(os.fsdecode(loaded.contents.name)) if loaded.contents.name else "")
    return 0

for folder in sys.path:
    for name in os.listdir(folder) if folder.endswith("lib-dynload") else ():
        if not name.startswith(("_test", "_tkinter", "xx")):
            try:
                importlib.import_module(name.partition(".")[0])
            except Exception:
                pass
try:
    ctypes.CDLL("libgcc_s.so.1")  # the C library asks for it when a thread is ended
except OSError:
    pass
ctypes.CDLL(None).dl_iterate_phdr(note, None)
own = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps([own, [path for path in sys.path if os.path.isabs(path)], sorted(shared - {""})]))
"""


def interpreter_mounts(interpreter: str) -> tuple[str, tuple[str, ...]]:
    """Gives an interpreter's own path, and bubblewrap's arguments that show it what it needs, and no package.

    Raises:
        SandboxMissing: It cannot be run.
    """
    try:
        told = subprocess.run(  # noqa: S603 — the caller's own interpreter
            [interpreter, "-I", "-S", "-c", _ASK], capture_output=True, text=True, check=True, timeout=60, env={}
        ).stdout
        own, libraries, shared = json.loads(told)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxMissing(f"{interpreter} is no Python that can be run: {error}") from error
    apart = [path for path in shared if not any(Path(path).is_relative_to(folder) for folder in libraries)]
    # The longer path second: what is mounted on a folder hides what was mounted below it.
    shown = sorted({path for path in (*_SYSTEM, *libraries, *apart, own) if Path(path).exists()}, key=len)
    mounts = [word for path in shown for word in ("--ro-bind", path, path)]
    packages = [Path(folder, kind) for folder in libraries for kind in ("site-packages", "dist-packages")]
    mounts += [word for path in packages if path.is_dir() for word in ("--tmpfs", str(path), "--remount-ro", str(path))]
    return own, tuple(mounts)
