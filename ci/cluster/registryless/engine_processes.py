"""Finds and ends the processes of the engine and its containers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from ci.cluster.registryless.control_groups import CGROUP
from ci.cluster.registryless.engine_folders import RUN
from ci.cluster.registryless.engine_network import NAMESPACE_FILE

PID_FILE = RUN / "docker.pid"


def present() -> dict[int, str]:
    """Processes of the engine: pid to name.

    They are recognised by the network namespace, the control groups or the folder in the command line.
    """
    names = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and _is_ours(folder):
                names[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:  # the process ended in the meantime
            continue
    return names


def end(patience: float = 30) -> None:
    """Stop the engine within `patience` seconds, then kill processes that the engine or its containers left."""
    daemon = _read_pid()
    if daemon and daemon in present():
        os.kill(daemon, signal.SIGTERM)
        _await_end({daemon}, patience)
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        left = set(present())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if left:
            _await_end(left, seconds)


def _await_end(pids: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while pids & set(present()) and time.monotonic() < deadline:
        time.sleep(0.1)


def _read_pid() -> int | None:
    try:
        return int(PID_FILE.read_text())
    except (OSError, ValueError):
        return None


def _is_ours(process: Path) -> bool:
    program = (process / "comm").read_text().strip()
    words = (process / "cmdline").read_bytes()
    if program in ("dockerd", "containerd", "containerd-shim") or program.startswith("containerd-shim"):
        return str(RUN).encode() in words
    if any(line.partition("::")[2].startswith(f"/{CGROUP}/") or f":/{CGROUP}/" in line
           for line in (process / "cgroup").read_text().splitlines()):  # fmt: skip
        return True
    return NAMESPACE_FILE.exists() and (process / "ns" / "net").stat().st_ino == NAMESPACE_FILE.stat().st_ino
