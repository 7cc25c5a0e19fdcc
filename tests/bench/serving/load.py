"""Generates load for servers: in a closed loop, paced, and with long lists."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from ci.common import debian
from ci.common.console import Failure, run
from tests.bench.serving.model import Rows
from tests.bench.serving.servers import Form, Server

CONNECTIONS = 16
PACE = 300  # requests per second
SERVER_CORE, LOAD_CORE = 0, 1
SAMPLES = 256  # different listings in the requests
_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT = 60  # seconds per answer; the slowest server needs a second for a list


def prepare() -> None:
    """Install the load generator.

    Raises:
        Failure: the installation failed, or this machine has only one core.
    """
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise Failure(f"cores {SERVER_CORE} and {LOAD_CORE} are needed: one for the server, one for the load generator")
    if subprocess.run(["which", "wrk"], capture_output=True, check=False).returncode:
        debian.install(["wrk"])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pins processes that start within this block, with their threads and children, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check(port: int, server: Server, form: Form, rows: Rows, at_once: bool) -> None:
    """Compare the answers of a server with the expected ones, to the last bit.

    Raises:
        Failure: an answer differs, or is an error.
    """
    parts = [rows] if at_once else [rows[at : at + 1] for at in range(len(rows.listings))]
    answers: list[float] = []
    for part in parts:
        body = form.encode(part)
        headers = {"Content-Type": "application/json"} | form.headers(body)
        answer = httpx.post(f"http://127.0.0.1:{port}{form.path}", content=body, headers=headers, timeout=_TIMEOUT)
        if answer.status_code != 200:
            raise Failure(f"{server.name} ({form.name}) answered {answer.status_code}: {answer.text[:500]}")
        answers += form.decode(answer.content)
    expected = server.expected(rows)
    if not np.array_equal(np.array(answers), expected):
        differ = [at for at, value in enumerate(expected) if at >= len(answers) or answers[at] != value]
        raise Failure(
            f"{server.name} ({form.name}) differs from the booster: {len(differ)} of {len(expected)} rows, "
            f"the first is {differ[0] if differ else len(expected)}; {len(answers)} answers"
        )


@dataclass(frozen=True)
class Loaded:
    """Measurements of the load generator."""

    rate: float  # requests a second
    p50: float  # milliseconds
    p99: float
    core: float  # share of its core that the server used
    generator: float  # share of the other core that the generator used


def loop(port: int, pid: int, requests: Sequence[bytes], seconds: int, rate: float = 0) -> Loaded:
    """Send the requests over `CONNECTIONS` connections: in a closed loop, or with pauses for `rate` per second.

    The pauses have an exponential distribution, like those of many independent clients. Latency counts from sending.

    Raises:
        Failure: a request failed.
    """
    counts, core, generator = _wrk(port, pid, requests, seconds, CONNECTIONS, rate)
    if counts["not_ok"]:
        raise Failure(f"{counts['not_ok']} of {counts['requests']} requests failed")
    return Loaded(counts["requests"] / counts["seconds"], counts["p50_ms"], counts["p99_ms"], core, generator)


@dataclass(frozen=True)
class Waits:
    """Latency of the answers with one status."""

    rate: float  # answers per second
    p50: float  # milliseconds; NaN without answers
    p99: float


@dataclass(frozen=True)
class Refusing:
    """Measurements of a server that may refuse requests."""

    accepted: Waits
    refused: Waits
    core: float  # see Loaded
    generator: float


def refusing(
    port: int, pid: int, requests: Sequence[bytes], seconds: int, connections: int, rate: float = 0
) -> Refusing:
    """Like `loop`, for a server that may answer 503.

    Raises:
        Failure: a connection broke, or an answer was neither a price nor a refusal.
    """
    counts, core, generator = _wrk(port, pid, requests, seconds, connections, rate, "apart")
    if counts["others"]:
        raise Failure(f"{counts['others']} of {counts['requests']} answers were neither 200 nor 503")
    return Refusing(
        _waits(counts["accepted"], counts["seconds"]), _waits(counts["refused"], counts["seconds"]), core, generator
    )


def _waits(counts: list[list[int]], seconds: float) -> Waits:
    """Latency from a histogram: pairs of hundredths of a millisecond and number of answers."""
    waits, number = np.array(sorted(counts)).reshape(-1, 2).T
    total = number.sum()
    if not total:
        return Waits(0, math.nan, math.nan)
    p50, p99 = (float(waits[np.searchsorted(number.cumsum(), share * total)]) / 100 for share in (0.5, 0.99))
    return Waits(total / seconds, p50, p99)


def _wrk(
    port: int, pid: int, requests: Sequence[bytes], seconds: int, connections: int, rate: float, *options: str
) -> tuple[dict[str, Any], float, float]:
    """Run wrk; returns the output of its script, and the shares of the cores as in `Loaded`."""
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for request in requests:
            file.write(b"%d\n" % len(request) + request)
        file.flush()
        pause = connections / rate * 1000 if rate else 0
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command += ["--timeout", f"{_TIMEOUT}s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}"]
        before, began = (processor_seconds(pid), _children_seconds()), time.monotonic()
        with on_core(LOAD_CORE):
            done = run([*command, "--", file.name, str(pause), *options], timeout=seconds + _TIMEOUT)
        after, took = (processor_seconds(pid), _children_seconds()), time.monotonic() - began
    counts = json.loads(done.stdout.strip().splitlines()[-1])
    if counts["broken"]:
        raise Failure(f"{counts['broken']} of {counts['requests']} requests had no answer")
    core, generator = ((now - then) / took for then, now in zip(before, after, strict=True))
    return counts, core, generator


def lists(port: int, pid: int, form: Form, rows: Rows, seconds: float, least: int = 3) -> tuple[float, float]:
    """Rows per second, and per core second, of one connection that repeatedly sends all rows in one request.

    The first by the median of the waits.

    Raises:
        Failure: a request failed.
    """
    body = form.encode(rows)
    headers = {"Content-Type": "application/json"} | form.headers(body)
    waits: list[float] = []
    before = processor_seconds(pid)
    with on_core(LOAD_CORE), httpx.Client(timeout=_TIMEOUT) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(waits) < least:
            began = time.perf_counter()
            answer = client.post(f"http://127.0.0.1:{port}{form.path}", content=body, headers=headers)
            waits.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise Failure(f"{form.name}: {answer.status_code}: {answer.text[:500]}")
    count, core = len(rows.listings), processor_seconds(pid) - before
    return count / statistics.median(waits), count * len(waits) / core


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def memory_mb(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process and its descendants."""
    usage = [process.memory_full_info() for process in tree(pid)]
    return sum(one.rss for one in usage) / 1e6, sum(one.pss for one in usage) / 1e6


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its descendants so far."""
    return sum(sum(process.cpu_times()[:2]) for process in tree(pid))


def _children_seconds() -> float:
    """Processor time of ended children: within a loop, that of the load generator."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
