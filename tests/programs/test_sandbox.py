"""Programs that try to get out of the sandbox, or to harm the machine from within."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from progspace.errors import ProgramError, SandboxMissing
from progspace.programs.sandbox import Limits, Run, Sandbox
from progspace.programs.seccomp import MACHINES, seccomp_filter

SMALL = Limits(seconds=30, cpu_seconds=2, memory=256 * 2**20)
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    made = Sandbox(SMALL)
    try:
        made.check()
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    return made


def ended(run: Run) -> str:
    """What a program printed that was let run to its end."""
    assert run.ok, run
    return run.stdout


def trying(source: str, error: str = "OSError") -> str:
    """A program that tells that it was refused, by an error of a kind."""
    lines = "\n".join(f"    {line}" for line in source.splitlines())
    return f"import os, socket, subprocess, sys\ntry:\n{lines}\nexcept {error} as e:\n    print('refused')"


def namespaces() -> set[str]:
    """The process namespaces that there are on the machine."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.add(str((process / "ns/pid").readlink()))
            except OSError:
                continue
    return found


def wait_for(condition: Callable[[], bool], fault: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(fault)


def until(what: str, held: set[str], *, gone: bool) -> None:
    """Waits for namespaces to come, or to go."""
    wait_for(lambda: (namespaces() <= held) is gone, what)


def test_a_program_runs_and_is_told_of(sandbox: Sandbox) -> None:
    run = sandbox.run("import sys, json\nprint(json.dumps({'ü': 1}))\nprint('no', file=sys.stderr)\nsys.exit(3)")
    assert (run.stdout, run.stderr, run.status, run.stopped) == ('{"\\u00fc": 1}\n', "no\n", 3, None)
    failed = sandbox.run("def f():\n    1 / 0\nf()")
    assert failed.status == 1
    assert failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "/sandbox/program.py" in failed.stderr
    assert sandbox.run("x = '\ud800'").status == 1


def test_it_has_the_standard_library_and_the_modules_that_it_is_given(sandbox: Sandbox) -> None:
    libraries = "asyncio, ctypes, dataclasses, decimal, hashlib, lzma, sqlite3, ssl, zoneinfo"
    assert ended(sandbox.run(f"import {libraries}\nprint(sqlite3.connect(':memory:').execute('select 7').fetchall())"))
    given = Sandbox(SMALL, modules={"harbour": "DEPTH = 9"})
    assert ended(given.run("import harbour\nprint(harbour.DEPTH)")) == "9\n"
    assert ended(given.run(trying("open('/sandbox/modules/harbour.py', 'w')"))) == "refused\n"
    assert ended(sandbox.run(trying("import dspy", "ImportError"))) == "refused\n"
    with pytest.raises(ProgramError, match="Python name"):
        Sandbox(modules={"../x": ""})


def test_it_is_the_main_module_as_far_as_python_can_tell(sandbox: Sandbox) -> None:
    source = (
        "from __future__ import annotations\nimport dataclasses, pickle, typing, threading\n@dataclasses.dataclass\n"
        "class A:\n    x: int\nassert __name__ == '__main__'\nprint(typing.get_type_hints(A), pickle.loads(pickle.dumps"
        "(A(4))))\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()"
    )
    assert ended(sandbox.run(source)) == "{'x': <class 'int'>} A(x=4)\nthread\n"


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/1/root/etc/passwd", "/dev/mem",
     "/sys/kernel", "/var", "/home", "/run", "/usr/bin", "/bin/sh", "/dev/../etc/shadow",
     str(CHECKOUT / "pyproject.toml"), str(CHECKOUT), str(Path(sys.prefix) / "pyvenv.cfg")],
)  # fmt: skip
def test_it_sees_no_file_of_the_machine(sandbox: Sandbox, path: str) -> None:
    assert ended(sandbox.run(trying(f"os.stat({path!r})"))) == "refused\n"
    through = f"os.symlink({path!r}, '/tmp/link')\nopen('/tmp/link').read()"
    assert ended(sandbox.run(trying(through))) == "refused\n"


def test_it_finds_no_secret_wherever_it_looks(sandbox: Sandbox, tmp_path: Path) -> None:
    name = "secret-of-the-machine.txt"
    places = [tmp_path / name, Path.home() / f".{name}"]
    try:
        for place in places:
            place.write_text("secret", encoding="utf-8")
        source = (
            "import os\nfound = [f for _, d, files in os.walk('/') for f in files + d if 'secret-of' in f]\n"
            "packages = [p for p, _, files in os.walk('/') if p.endswith('-packages') and files]\n"
            f"print(found, packages, [os.path.exists(p) for p in {list(map(str, places))!r}])"
        )
        assert ended(sandbox.run(source)) == "[] [] [False, False]\n"
    finally:
        for place in places:
            place.unlink()


def test_it_is_told_nothing_of_the_caller(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")
    source = (
        "import os, sys\nopen_files = []\nfor n in range(3, 256):\n    try:\n        os.fstat(n)\n"
        "        open_files.append(n)\n    except OSError:\n        pass\n"
        "print(sorted(os.environ), open_files, repr(sys.stdin.read()), os.uname().nodename)"
    )
    assert ended(sandbox.run(source)) == "['PWD'] [] '' sandbox\n"
    assert (
        "sk-not"
        in subprocess.run(
            [sys.executable, "-c", "import os; print(os.environ)"], capture_output=True, text=True, check=True
        ).stdout
    )  # as a program without a sandbox would


def test_it_writes_to_its_own_tmp_alone(sandbox: Sandbox) -> None:
    folders = ["/", "/dev", "/usr/lib", "/lib", "/sandbox", "/sandbox/modules", str(Path(sys.base_prefix) / "lib")]
    for folder in folders:
        assert ended(sandbox.run(trying(f"open({folder!r} + '/written', 'w')"))) == "refused\n", folder
        assert not Path(folder, "written").exists()
    assert ended(sandbox.run("open('/tmp/a', 'w').write('x')\nprint(open('/tmp/a').read())")) == "x\n"
    assert ended(sandbox.run("import os\nprint(os.listdir('/tmp'), os.getcwd())")) == "[] /tmp\n"
    linked = "os.symlink('/usr/lib', '/tmp/l')\nopen('/tmp/l/written', 'w')"
    assert ended(sandbox.run(trying(linked))) == "refused\n"
    assert ended(sandbox.run(trying(f"os.chmod({os.__file__!r}, 0o777)"))) == "refused\n"
    assert ended(sandbox.run(trying(f"os.link({os.__file__!r}, '/tmp/os.py')"))) == "refused\n"


def test_it_reaches_no_network(sandbox: Sandbox) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    listener.accept()[0].close()
                    reached.set()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        port = listener.getsockname()[1]
        call = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5); print('in')"
        assert ended(sandbox.run(trying(call))) == "refused\n"
        assert not reached.is_set()
        # Without a sandbox the same program gets through.
        assert subprocess.run([sys.executable, "-c", call], capture_output=True, check=True).stdout == b"in\n"
        assert reached.wait(10)
        listener.shutdown(socket.SHUT_RDWR)
    for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"):
        tried = trying(f"socket.socket(socket.{family}, socket.SOCK_DGRAM)\nprint('made')")
        assert ended(sandbox.run(tried)) == "refused\n", family
    assert ended(sandbox.run(trying("socket.getaddrinfo('example.org', 80)"))) == "refused\n"


def test_it_meets_no_socket_of_the_machine(sandbox: Sandbox) -> None:
    name = f"\0progspace-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert ended(sandbox.run(trying(f"socket.socket(socket.AF_UNIX).connect({name!r})"))) == "refused\n"


@pytest.mark.parametrize(
    "source",
    [
        "os.fork()",
        "os.posix_spawn(sys.executable, [sys.executable, '-c', ''], {})",
        "subprocess.Popen([sys.executable, '-c', ''])",
        "subprocess.Popen([sys.executable, '-c', ''], start_new_session=True, close_fds=False)",
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
        "while True:\n    os.fork()",
        "os.memfd_create('hidden')",
        "os.chroot('/tmp')",
        "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))",
        "os.setuid(0)",
        "os.nice(-5)",
    ],
)
def test_it_is_refused_what_it_has_no_use_for(sandbox: Sandbox, source: str) -> None:
    assert ended(sandbox.run(trying(f"{source}\nprint('done')"))) == "refused\n"


def test_the_kernel_is_asked_in_vain_past_the_standard_library(sandbox: Sandbox) -> None:
    numbers = {"x86_64": (272, 165, 101, 425, 29, 321), "aarch64": (97, 40, 117, 425, 194, 280)}[platform.machine()]
    source = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(*words):\n    ctypes.set_errno(0)\n"
        "    return libc.syscall(*map(ctypes.c_long, words)), ctypes.get_errno()\n"
    )
    # A new user namespace, a mount, a trace, io_uring, shared memory, BPF; and clone3, to which there is an older way.
    asked = [*((number, 0x10000000, 1, 1) for number in numbers), (435, 0, 0)]
    told = ended(sandbox.run(source + f"print([call(*words) for words in {asked!r}])"))
    assert told == f"{[(-1, 1)] * 6 + [(-1, 38)]}\n"
    if platform.machine() == "x86_64":
        assert ended(sandbox.run(source + "print(call(0x40000000 + 57))")) == "(-1, 1)\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of an x86_64")
def test_the_other_set_of_system_calls_is_closed(sandbox: Sandbox) -> None:
    # mov eax, 2 (fork); int 0x80; ret
    source = (
        "import ctypes, mmap\ncode = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes([0xB8, 2, 0, 0, 0, 0xCD, 0x80, 0xC3]))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())"
    )
    run = sandbox.run(source)
    assert (run.stdout, run.stopped) == ("", "signal")
    assert run.status in (128 + signal.SIGSYS, 128 + signal.SIGSEGV)  # there may be no such calls at all


def test_it_kills_nobody(sandbox: Sandbox) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as bystander:
        source = (
            f"import os\nfor target in ({os.getpid()}, {bystander.pid}, {os.getppid()}, os.getppid(), 1, -1):\n"
            "    try:\n        os.kill(target, 9)\n    except OSError:\n        pass\nprint('still here')"
        )
        assert ended(sandbox.run(source)) == "still here\n"
        assert bystander.poll() is None
        bystander.kill()
    for number in (9, 11):
        assert Sandbox(Limits(cpu_seconds=60)).run(f"import os; os.kill(os.getpid(), {number})").stopped == "signal"


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    run = sandbox.run("x = bytearray(10 * 2**30)")
    assert (run.status, run.stopped) == (1, "memory")
    assert sandbox.run("x = []\nwhile True:\n    x.append(bytes(2**20))").stopped == "memory"
    caught = (
        "n = 0\ntry:\n    while True:\n        n += 1\n        globals()[f'x{n}'] = bytes(2**20)\nexcept MemoryError:\n"
    )
    assert 100 < int(ended(sandbox.run(caught + "    print(n)"))) < 256
    mapped = "import mmap\nx = [mmap.mmap(-1, 2**26) for _ in range(100)]"
    assert sandbox.run(mapped).status == 1


def test_time_is_bounded(sandbox: Sandbox) -> None:
    run = sandbox.run("while True:\n    pass")
    assert (run.status, run.stopped) == (128 + signal.SIGXCPU, "CPU time")
    deaf = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass"
    assert sandbox.run(deaf).stopped == "CPU time"
    threads = "import threading\ndef spin():\n    while True:\n        pass\n"
    threads += "for _ in range(4):\n    threading.Thread(target=spin).start()"
    assert sandbox.run(threads).stopped == "CPU time"
    brief = Sandbox(Limits(seconds=1, cpu_seconds=2))
    for source in ("import time; time.sleep(1000)", "import os, time; os.close(1); os.close(2); time.sleep(1000)"):
        run = brief.run(source)
        assert (run.status, run.stopped) == (None, "wall time")
    assert brief.run("print('first', flush=True)\nimport time; time.sleep(1000)").stdout == "first\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_output_is_bounded(name: str, sandbox: Sandbox) -> None:
    run = Sandbox(Limits(seconds=30, output=1000)).run(f"import sys\nwhile True:\n    sys.{name}.write('ü' * 100)")
    assert run.stopped == "output"
    assert len(getattr(run, name)) == 500
    assert ended(Sandbox(Limits(output=1000)).run("print('x' * 999)")) == "x" * 999 + "\n"


def test_disk_is_bounded(sandbox: Sandbox) -> None:
    tight = Sandbox(Limits(disk=2**20, file=2**19))
    assert ended(tight.run(trying("open('/tmp/a', 'wb').write(bytes(2**20))\nprint('in')"))) == "refused\n"
    many = "for n in range(10):\n    open(f'/tmp/{n}', 'wb').write(bytes(2**18))\nprint('in')"
    assert ended(tight.run(trying(many))) == "refused\n"
    sparse = "f = open('/tmp/a', 'wb'); f.truncate(2**40)\nprint('in')"
    assert ended(tight.run(trying(sparse))) == "refused\n"
    assert ended(
        tight.run(trying("for n in range(100):\n    globals()[f'x{n}'] = open('/tmp/a', 'w')\nprint('in')"))
    ) == ("refused\n")


def test_limits_are_not_raised_again(sandbox: Sandbox) -> None:
    for name in ("AS", "CPU", "FSIZE", "NPROC", "NOFILE", "CORE"):
        raised = f"import resource\nresource.setrlimit(resource.RLIMIT_{name}, (10**9, 10**9))\nprint('raised')"
        assert ended(sandbox.run(trying(raised, "(OSError, ValueError)"))) == "refused\n", name


def test_nothing_is_left_behind(sandbox: Sandbox) -> None:
    before = namespaces()
    with ThreadPoolExecutor(1) as pool:
        lasting = pool.submit(Sandbox(Limits(seconds=3)).run, "import time; time.sleep(1000)")
        until("the sandbox was never seen", before, gone=False)  # as it is, while it runs
        assert lasting.result().stopped == "wall time"
    until("a process of the sandbox is left", before, gone=True)
    hidden = "import os, threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    assert sandbox.run(hidden).ok
    assert sandbox.run(hidden + "os._exit(0)").ok
    until("a process of the sandbox is left", before, gone=True)


def test_it_dies_with_its_caller(sandbox: Sandbox) -> None:
    before = namespaces()
    source = (
        "from progspace.programs.sandbox import *\nSandbox(Limits(seconds=500)).run('import time; time.sleep(1000)')"
    )
    with subprocess.Popen([sys.executable, "-c", source]) as caller:
        until("the sandbox was never seen", before, gone=False)
        caller.kill()
    until("a process of the sandbox is left", before, gone=True)


def test_it_does_not_begin_where_its_caller_is_gone(sandbox: Sandbox, tmp_path: Path) -> None:
    """bubblewrap is held back until the caller is dead, and what it then says is kept."""
    late = tmp_path / "bwrap"
    late.write_text(
        f"#!/bin/sh\ncd {tmp_path}\nif [ -e checked ]; then\n  touch late\n"
        "  while kill -0 $PPID 2>/dev/null; do sleep 0.05; done\nfi\ntouch checked\n"
        f'{shutil.which("bwrap")} "$@"\necho $? >status.new; mv status.new status.$$\n'
    )
    late.chmod(0o755)
    source = (
        "from progspace.programs.sandbox import *\nSandbox(Limits(seconds=500)).run('import time; time.sleep(1000)')"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen([sys.executable, "-c", source], env={**os.environ, "PATH": path}) as caller:
        wait_for(lambda: (tmp_path / "late").exists(), "the sandbox was never begun")
        caller.kill()
    wait_for(lambda: len(list(tmp_path.glob("status.*"))) == 2, "the program outlives its caller")
    assert sorted(each.read_text() for each in tmp_path.glob("status.*")) == ["0\n", "1\n"]


def test_many_run_at_a_time(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: sandbox.run(f"open('/tmp/n', 'x').write('{n}')\nprint({n})"), range(24)))
    assert [ended(run) for run in runs] == [f"{n}\n" for n in range(24)]


@pytest.fixture
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is searched for programs, with an interpreter that no other test has used."""
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_where_there_is_no_sandbox_nothing_runs(own_path: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxMissing, match=r"bwrap is missing; install bubblewrap .*apt-get install bubblewrap"):
        Sandbox(interpreter=str(own_path / "python")).run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a shell at /bin/sh")
@pytest.mark.parametrize(
    "script",
    [
        "echo 'bwrap: No permissions to create new namespace' >&2; exit 1",
        "exit 0",
        'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',  # runs it, and shuts nothing
    ],
)
def test_where_the_sandbox_does_not_hold_nothing_runs(own_path: Path, tmp_path: Path, script: str) -> None:
    if platform.machine() not in MACHINES:
        pytest.skip(f"no filter for a {platform.machine()}")
    (own_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (own_path / "bwrap").chmod(0o755)
    with pytest.raises(SandboxMissing) as caught:
        Sandbox(interpreter=str(own_path / "python")).run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()
    assert "No permissions" in str(caught.value) or "No permissions" not in script


def test_another_interpreter(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxMissing, match="is no Python that can be run"):
        Sandbox(interpreter="/no/such/python").run("")
    other = Path("/usr/bin/python3")
    if not other.exists():
        pytest.skip("there is no second Python: /usr/bin/python3")
    source = "import json, sys; print(sys.prefix)"
    assert ended(Sandbox(SMALL, interpreter=str(other)).run(source)) == "/usr\n"


def test_limits_must_be_limits() -> None:
    with pytest.raises(ProgramError, match="memory=0"):
        Limits(memory=0)


def test_the_filter_is_the_same_size_of_each_machine() -> None:
    sizes = {machine: len(seccomp_filter(machine)) for machine in MACHINES}
    assert all(size % 8 == 0 and 100 < size // 8 < 256 for size in sizes.values()), sizes
    with pytest.raises(KeyError):
        seccomp_filter("vax")
