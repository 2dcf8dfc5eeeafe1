"""Runs Python source that nobody has read, an LM's for instance, where it can do no harm.

A run is a new process in namespaces of its own, made by `bubblewrap <https://github.com/containers/bubblewrap>`_, with
the kernel's limits on what it may use (``setrlimit``) and a filter of system calls (`progspace.programs.seccomp`).

**It protects against** a program that reads files (it sees the interpreter, its standard library and the shared
libraries that these need, read-only; no home, no configuration, no installed packages, no ``/proc``), that reads the
caller's environment and open files (it has none of them), that writes (a private ``/tmp`` of bounded size, gone
afterwards), that reaches a network (there is none, not even the machine's own; of sockets there are ``AF_UNIX`` only),
that sends signals to or looks at other processes (it sees none), that leaves something behind (all dies with the run),
and that uses time, memory, disk, threads or output without end. It cannot make processes at all: a limit of memory is
one of a process, and many processes would have many times as much.

**It does not protect against** faults of the kernel, of bubblewrap or of the processor (side channels); who runs code
of a determined attacker runs it in a virtual machine besides. The filter refuses what is known to be dangerous, and
does not list what is known to be harmless. Some of the kernel's own memory escapes the limit, since that holds for a
process (to limit a group of them needs rights that not every user has): what is behind empty files in ``/tmp``, about
100 MB for each second of CPU time, and behind threads, which the kernel does not count where the caller is ``root``.
The program learns the interpreter's path, the kernel's version and the time. What it prints is text of its own: data,
never instructions.

Where there is no bubblewrap, or it does not work, nothing is run: `progspace.errors.SandboxMissing`.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from ..errors import ProgramError, SandboxMissing
from .interpreters import interpreter_mounts
from .reading_pipes import read_pipes
from .seccomp import MACHINES, seccomp_filter

__all__ = ["Limits", "Run", "Sandbox"]

Stopped = Literal["wall time", "CPU time", "memory", "output", "signal"]

_MODULES, _PROGRAM, _TMP = "/sandbox/modules", "/sandbox/program.py", "/tmp"  # noqa: S108 — of the sandbox, not ours
_NOBODY = "65534"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_MEND = "install bubblewrap 0.8 or newer (apt-get install bubblewrap)"

# Limits are set by the interpreter on itself, before it takes up the program: lowered, they cannot be raised again.
# Standard input is a pipe whose other end the caller holds. bubblewrap's processes ask to die with their parents once
# they run: a caller that was killed before leaves the pipe closed, and nothing else would end the run.
_START = """
import os, resource, select, sys
caller = select.poll()
caller.register(0, 0)
if caller.poll(0):
    os._exit(1)
os.close(0)
os.open("/dev/null", os.O_RDONLY)
for name, soft, hard in {limits!r}:
    resource.setrlimit(getattr(resource, name), (soft, hard))
sys.path.insert(0, {modules!r})
sys.argv[:] = [{program!r}]
with open({program!r}, "rb") as file:
    source = file.read()
del caller, os, resource, select, sys, name, soft, hard, file
exec(compile(source, {program!r}, "exec"))
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        seconds: On the clock.
        cpu_seconds: Of the processor, all threads together.
        memory: Bytes of address space.
        disk: Bytes in ``/tmp``.
        file: Bytes in one file.
        threads: At a time.
        output: Bytes on each of standard output and standard error.
    """

    seconds: float = 10.0
    cpu_seconds: int = 5
    memory: int = 512 * 2**20
    disk: int = 16 * 2**20
    file: int = 8 * 2**20
    threads: int = 32
    output: int = 64 * 2**10

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ProgramError(f"a sandbox's limit must be above 0: {name}={getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes:
        stdout: Standard output, cut at the limit.
        stderr: Standard error, cut at the limit.
        status: The exit status; 128 and the signal's number where a signal ended it; None where it was stopped from
            outside (by time on the clock, or for its output).
        stopped: Which limit ended it, or a signal; None where it ended by itself. Of memory it is known only by what
            the program says last.
    """

    stdout: str
    stderr: str
    status: int | None
    stopped: Stopped | None

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with status 0."""
        return self.status == 0 and self.stopped is None


@dataclass(frozen=True, slots=True)
class Sandbox:
    r"""Runs Python source in a sandbox; can be used by many threads at a time.

    Attributes:
        limits: What a run may use.
        modules: Source of modules that a program may import, by name.
        interpreter: Of which Python; it sees the standard library, and no package that is installed.

    >>> Sandbox().run("print(6 * 7)").stdout  # doctest: +SKIP
    '42\n'
    """

    limits: Limits = Limits()
    modules: Mapping[str, str] = field(default_factory=dict)
    interpreter: str = sys.executable

    def __post_init__(self) -> None:
        for name in self.modules:
            if not name.isidentifier():
                raise ProgramError(f"a module's name must be a Python name, not {name!r}")

    def check(self) -> None:
        """Makes sure that programs can be run here.

        Raises:
            SandboxMissing: They cannot; it says what is missing, and how to mend it.
        """
        _working(self.interpreter)

    def run(self, source: str) -> Run:
        """Runs a program; whatever it does is in what is given back.

        Raises:
            SandboxMissing: There is no sandbox here; nothing was run.
        """
        return _run(_working(self.interpreter), source, self.limits, self.modules)


@dataclass(frozen=True, slots=True)
class _Walls:
    """How bubblewrap is called for an interpreter: all but what changes from run to run."""

    bwrap: str
    interpreter: str
    mounts: tuple[str, ...]
    filter: bytes


@lru_cache(maxsize=16)
def _working(interpreter: str) -> _Walls:
    """Builds the walls, and makes sure that they hold by running a program in them that says so."""
    bwrap = shutil.which("bwrap")
    if sys.platform != "linux" or bwrap is None:
        raise SandboxMissing(f"there is no sandbox to run code in: the program bwrap is missing; {_MEND} on Linux")
    if platform.machine() not in MACHINES:
        raise SandboxMissing(
            f"there is no sandbox to run code in: the system calls of a {platform.machine()} are not known; "
            f"there is {', '.join(MACHINES)}"
        )
    own, mounts = interpreter_mounts(interpreter)
    walls = _Walls(bwrap, own, mounts, seccomp_filter(platform.machine()))
    tried = _run(walls, "import os, resource; print('within', os.getppid())", Limits(seconds=30), {})
    if tried.stdout != "within 1\n":
        raise SandboxMissing(f"the sandbox of {interpreter} does not work: {tried.stderr.strip()[-400:] or tried!r}")
    return walls


def _run(walls: _Walls, source: str, limits: Limits, modules: Mapping[str, str]) -> Run:
    with ExitStack() as files:
        passed: list[int] = []

        def held(content: bytes) -> str:
            """Holds content in a file without a name, and gives its number for a child."""
            file = files.enter_context(tempfile.TemporaryFile())
            file.write(content)
            file.seek(0)
            passed.append(file.fileno())
            return str(file.fileno())

        status = files.enter_context(tempfile.TemporaryFile())
        passed.append(status.fileno())
        start = _START.format(limits=_resources(limits), modules=_MODULES, program=_PROGRAM)
        command = [
            walls.bwrap,
            *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--uid", _NOBODY),
            *("--gid", _NOBODY, "--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv"),
            *("--json-status-fd", str(status.fileno()), "--seccomp", held(walls.filter)),
            *walls.mounts,
            *(word for path in _DEVICES for word in ("--dev-bind", path, path)),
            *("--perms", "0755", "--dir", _MODULES),
            *("--ro-bind-data", held(source.encode("utf-8", "surrogatepass")), _PROGRAM),
            *_each_module(modules, held),
            *("--size", str(limits.disk), "--tmpfs", _TMP, "--remount-ro", "/", "--chdir", _TMP, "--"),
            *(walls.interpreter, "-I", "-S", "-B", "-X", "utf8", "-c", start),
        ]
        started = time.monotonic()
        with subprocess.Popen(  # noqa: S603 — a list, and no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            env={},
        ) as process:
            try:
                out, err, cut = read_pipes(process, seconds=limits.seconds, size=limits.output)
            finally:
                process.kill()  # bubblewrap dies, and with it all that is inside
        seconds = time.monotonic() - started
        status.seek(0)
        code = _exit_code(status.read())
    stdout, stderr = (text.decode("utf-8", "replace") for text in (out, err))
    if cut is None and code is None:
        raise SandboxMissing(f"the sandbox could not be set up: {stderr.strip()[-400:] or 'it says nothing'}; {_MEND}")
    stopped = cut or _stopped(code or 0, stderr, long=seconds >= limits.cpu_seconds)
    return Run(stdout, stderr, None if cut else code, stopped)


def _each_module(modules: Mapping[str, str], held: Callable[[bytes], str]) -> list[str]:
    return [
        word
        for name, text in modules.items()
        for word in ("--ro-bind-data", held(text.encode("utf-8")), f"{_MODULES}/{name}.py")
    ]


def _resources(limits: Limits) -> list[tuple[str, int, int]]:
    same = {
        "RLIMIT_AS": limits.memory,
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_NPROC": limits.threads,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
    }
    # The first second sends SIGXCPU, which a program may ignore; the second kills.
    return [
        ("RLIMIT_CPU", limits.cpu_seconds, limits.cpu_seconds + 1),
        *((key, each, each) for key, each in same.items()),
    ]


def _exit_code(told: bytes) -> int | None:
    """Reads bubblewrap's own account of the run, which the program cannot write."""
    for line in told.splitlines():
        if "exit-code" in (document := json.loads(line)):
            return int(document["exit-code"])
    return None


def _stopped(code: int, stderr: str, *, long: bool) -> Stopped | None:
    # One that did not run for so long killed itself, or the kernel did for want of memory.
    if code == 128 + signal.SIGXCPU or (code == 128 + signal.SIGKILL and long):
        return "CPU time"
    if code > 128 and code - 128 in set(signal.Signals):
        return "signal"
    last = stderr.rstrip().rpartition("\n")[2]
    return "memory" if code != 0 and last.startswith("MemoryError") else None
