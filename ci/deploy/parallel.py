"""Runs programs of this repository in parallel, and shows their output and the first failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

from ci.common.console import Failure, line, say

LAST_LINES = 25  # of a failed program's output, shown in the message
PATIENCE = 60.0  # seconds between an interrupt and a kill


@dataclass(frozen=True)
class Program:
    """A module of this repository with its arguments, and the name that output shows."""

    name: str
    words: tuple[str, ...]  # arguments for Python, example: ("-m", "ci.cluster", "up")
    nice: int = 0  # 0 to 19: a program with a higher number leaves the processors to the others


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))


def together(programs: Sequence[Program], settings: Mapping[str, str]) -> dict[str, float]:
    """Run programs in parallel, with `settings` in their environment. Returns the seconds of each, by name.

    Each line of output is printed as it comes, after the program's name. Every program gets an interrupt once.

    Raises:
        Failure: a program ended with another code than 0; the message holds its last lines. The others are interrupted.
    """
    width = max(len(one.name) for one in programs)
    ended: SimpleQueue[_Running] = SimpleQueue()
    environment = {**os.environ, **settings, "PYTHONUNBUFFERED": "1"}

    def follow(one: _Running) -> None:
        assert one.process.stdout is not None  # noqa: S101 - stdout is PIPE
        for text in one.process.stdout:
            one.last.append(text.rstrip())
            line(f"{one.program.name:<{width}} | {text.rstrip()}")
        one.process.wait()
        one.seconds = time.monotonic() - one.began
        ended.put(one)

    running: list[_Running] = []
    with _signals_as_interrupts():
        try:
            for program in programs:
                running.append(_Running(program, _start(program, environment)))
                threading.Thread(target=follow, args=(running[-1],), daemon=True).start()
            for _ in programs:
                one = ended.get()
                if one.process.returncode:
                    raise Failure(_reason(one, [other for other in running if other.process.poll() is None]))
                say(f"{one.program.name}: done in {one.seconds:.1f} s")
        finally:
            _stop(running)
    return {one.program.name: one.seconds for one in running}


def _start(program: Program, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["nice", "-n", str(program.nice), sys.executable, *program.words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # a terminal interrupts only this program, which forwards the interrupt once
    )


def _reason(one: _Running, others: list[_Running]) -> str:
    lines = "\n".join(f"  {text}" for text in one.last)
    stopped = ", ".join(other.program.name for other in others)
    then = f"\n{stopped} was interrupted; its finished work is kept." if stopped else ""
    words = " ".join(one.program.words)
    return f"{one.program.name}: `python {words}` ended with code {one.process.returncode}:\n{lines}{then}"


def _stop(running: Sequence[_Running]) -> None:
    """Interrupt the programs that still run and their child processes, and wait until they end."""
    alive = [one.process for one in running if one.process.poll() is None]
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in alive:
            if process.poll() is None:
                with suppress(ProcessLookupError):  # it ended in the meantime
                    os.killpg(process.pid, number)
        deadline = time.monotonic() + PATIENCE
        for process in alive:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like an interrupt, unless they are ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
