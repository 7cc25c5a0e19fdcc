"""Measures our predictor under five times its capacity: `python -m tests.bench.serving.overload`.

The bench measures the capacity in a closed loop, then the latency at half of it with random pauses, and then a minute
at five times the capacity. Accepted requests must not take much longer than at half load, and the memory must not grow.
The server has one core and the load generator the other, as in `python -m tests.bench.serving`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from ci.common.console import main, say
from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from tests.bench.serving import load, report
from tests.bench.serving.comparison import TREES, WARM_UP_SECONDS, Bench, requests_of
from tests.bench.serving.model import train
from tests.bench.serving.report import Goal
from tests.bench.serving.servers import OURS

TIMES = 5  # times the capacity
CONNECTIONS = TIMES * load.CONNECTIONS
MEMORY_SECONDS = 1  # between two measurements


@dataclasses.dataclass(frozen=True)
class Round:
    """Measurements at each load."""

    capacity: load.Loaded
    half: load.Refusing
    overload: load.Refusing
    memory_mb: list[float]  # under overload, once per second


def goals(rounds: list[Round]) -> list[Goal]:
    """Medians of the rounds."""
    waits = [each.overload.accepted.p99 / each.half.accepted.p99 for each in rounds]
    grown = [_grown(each.memory_mb) for each in rounds]
    return [
        Goal(f"p99 of accepted requests at {TIMES} times the capacity, of that at half", median(waits), 2, False, "x"),
        Goal("growth of memory from the first quarter of the overload to its last", median(grown), 1.02, False, "x"),
    ]


def _grown(memory: list[float]) -> float:
    quarter = max(len(memory) // 4, 1)
    return median(memory[-quarter:]) / median(memory[:quarter])


def table(rounds: list[Round]) -> str:
    """A Markdown table with one row per load and round."""
    head = "| load | accepted/s | p50 ms | p99 ms | refused/s | p50 ms | p99 ms | core | generator |"
    lines = [head, "|---|" + "---:|" * 8]
    for each in rounds:
        at_most = f"{each.capacity.rate:,.0f} | {each.capacity.p50:.2f} | {each.capacity.p99:.2f} | | | "
        shares = f"{each.capacity.core:.0%} | {each.capacity.generator:.0%}"
        lines.append(f"| capacity: {load.CONNECTIONS} connections, no pause | {at_most}| {shares} |")
        for name, seen in (("half", each.half), (f"{TIMES} times", each.overload)):
            waits = [f"{one.rate:,.0f} | {one.p50:.2f} | {one.p99:.2f}" for one in (seen.accepted, seen.refused)]
            shares = f"{seen.core:.0%} | {seen.generator:.0%}"
            lines.append(f"| {name}: {CONNECTIONS} connections | {' | '.join(waits)} | {shares} |")
    return "\n".join(lines).replace("nan", "")


@contextmanager
def _memory(pid: int) -> Iterator[list[float]]:
    """Records the PSS of the server's processes in MB within this block."""
    seen: list[float] = []
    ended = threading.Event()

    def look() -> None:
        with load.on_core(load.LOAD_CORE):
            while not ended.wait(MEMORY_SECONDS):
                seen.append(load.memory_mb(pid)[1])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def bench(rounds: int, seconds: int, file: Path | None) -> None:
    """Measure, print the table, and write all figures to `file`.

    Raises:
        Failure: the server did not start, or an answer was neither a price nor a refusal.
    """
    load.prepare()
    measured: list[Round] = []
    with tempfile.TemporaryDirectory() as name, LocalPlatform(Path(name)) as local:
        run = Bench(local, train(Path(name), TREES), seconds)
        run.install([OURS])
        with load.on_core(load.LOAD_CORE):
            Ledger(local.database("ledger")).ensure_schema()
        requests = requests_of(OURS.one[0], run.served.rows[: load.SAMPLES])
        for _ in range(rounds):
            with run.running(OURS) as (port, pid):
                load.loop(port, pid, requests, WARM_UP_SECONDS)
                capacity = load.loop(port, pid, requests, max(seconds // 3, 1))
                say(f"capacity {capacity.rate:,.0f} requests/s")
                half = load.refusing(port, pid, requests, max(seconds // 2, 1), CONNECTIONS, capacity.rate / 2)
                with _memory(pid) as memory:
                    over = load.refusing(port, pid, requests, seconds, CONNECTIONS, capacity.rate * TIMES)
            measured.append(Round(capacity, half, over, memory))
            say(f"accepted p99 {half.accepted.p99:.2f} ms at half load, {over.accepted.p99:.2f} ms at {TIMES} times")
    held = goals(measured)
    print("\n" + table(measured) + "\n\n" + report.judged(held))
    if file:
        file.write_text(json.dumps([dataclasses.asdict(each) for each in measured], indent=2) + "\n")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.overload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of the overload (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    bench(options.rounds, options.seconds, options.json)


if __name__ == "__main__":
    main(_main)
