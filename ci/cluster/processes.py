"""Start, find and end the cluster's programs, each in a session of its own with a record in the state folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ci.cluster import build, settings
from ci.cluster.configs import Component
from ci.cluster.settings import state
from ci.console import Failure

LOG_LIMIT = 20_000_000  # bytes; a larger log is put aside once at the next start
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@dataclass(frozen=True)
class Process:
    """A running program of the cluster."""

    pid: int
    identity: str  # of the command and the files it read


def running(name: str) -> Process | None:
    """The process of a component, if it lives."""
    with suppress(OSError, ValueError, KeyError):
        record = json.loads(_record(name).read_text())
        if _started(record["pid"]) == record["started"]:
            return Process(record["pid"], record["identity"])
    return None


def start(component: Component) -> bool:
    """Start a component, or restart it if its command or configuration changed; returns False if it runs already."""
    identity, present = _identity(component), running(component.name)
    if present:
        if present.identity == identity:
            return False
        stop(component.name)
    log = log_file(component.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    env |= {key: value for key, value in os.environ.items() if key.lower() in PASSED_ON}
    with log.open("ab") as sink:
        process = subprocess.Popen(
            component.command,
            cwd=state(),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    record = {"pid": process.pid, "started": _started(process.pid), "identity": identity}
    _record(component.name).parent.mkdir(parents=True, exist_ok=True)
    _record(component.name).write_text(json.dumps(record))
    return True


def stop(name: str, patience: float = 15) -> bool:
    """End a component, by force if it does not end by itself within `patience` seconds; False if it did not run."""
    process = running(name)
    if process:
        end([process.pid], patience)
    _record(name).unlink(missing_ok=True)
    return process is not None


def end(pids: Iterable[int], patience: float = 15) -> None:
    """End processes: SIGTERM, then SIGKILL for those that are still there after `patience` seconds."""
    left = {pid: _started(pid) for pid in pids}
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + wait
        while (left := {pid: began for pid, began in left.items() if began and _started(pid) == began}) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.05)


def await_ready(component: Component, what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready` is true.

    Raises:
        Failure: the component ended, or it took too long; with the tail of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if not running(component.name):
            raise Failure(f"{component.name} ended while {what} was awaited:\n{log_tail(component.name)}")
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not come within {seconds:.0f} s:\n{log_tail(component.name)}")
        time.sleep(0.1)


def log_file(name: str) -> Path:
    """Where a component's output goes."""
    return state("log", f"{name}.log")


def log_tail(name: str, lines: int = 15) -> str:
    """The last lines of a component's log, under its path."""
    file = log_file(name)
    text = file.read_text(errors="replace").splitlines()[-lines:] if file.exists() else []
    return "\n".join([f"{file}:", *(f"  {line[:300]}" for line in text)])


def strays() -> dict[int, str]:
    """Processes of a cluster like this one, recorded or not, and container shims: process id to name."""
    programs, found = str(settings.build_dir()), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        name = Path(words[0]).name
        of_build = words[0].startswith(programs) and name in (*build.KUBERNETES, "netpold") and name != "kubectl"
        of_socket = name.startswith("containerd-shim") and str(settings.SOCKET) in words
        of_config = name == "containerd" and str(state("etc", "containerd.toml")) in words
        if of_build or of_socket or of_config:
            found[int(folder.name)] = name
    return found


def _identity(component: Component) -> str:
    found = hashlib.sha256(json.dumps(component.command).encode())
    for file in component.reads:
        found.update(file.read_bytes())
    return found.hexdigest()


def _record(name: str) -> Path:
    return state("pid", f"{name}.json")


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; empty if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
