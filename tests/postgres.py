"""A real PostgreSQL server for tests, from Debian's package, on a socket of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["Server", "programs"]


def programs() -> Path | None:
    """Where PostgreSQL's own programs are; Debian leaves them out of the search path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


class Server:
    """Runs while it is used; it does not run as root, so root makes it the user's ``postgres``."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin, self._count = bin_folder, 0
        self._folder = Path(tempfile.mkdtemp(prefix="progspace-pg-"))
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--pgdata", "data")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "--pgdata", "data", "--log", "log", "--wait", "--options", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "--pgdata", "data", "--wait", "--mode", "immediate", "stop")

    def new(self) -> str:
        """Makes an empty database and gives its URL."""
        self._count += 1
        name = f"store{self._count}"
        self._run("psql", "-h", str(self._folder), "-U", "postgres", "-qc", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), *arguments]
        # Standard output is left open by the server.
        subprocess.run(
            command, cwd=self._folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60
        )
