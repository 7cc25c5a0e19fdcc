"""Measures the prices per second of one predictor process, and of an echo under the same server.

`python -m tests.bench.serving_quick`: closed loop over local connections, median of three alternating rounds.
The client runs on the same machine as the server. Only the ratio to the echo can be compared between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from ci.common.console import main, say, wait_for
from ci.local.processes import LocalPlatform, free_port
from core.ledger import Ledger
from core.stores.registry import ModelVersion
from predictor.pricing.listing import EXAMPLE
from predictor.serving.cache import BundleCache
from tests.kit.small_models import train

NOWHERE = "http://127.0.0.1:9"
ROOT = str(Path(__file__).parents[2])


async def echo(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI application that returns the body of the request."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = (await receive()).get("body", b"")
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


async def _loop(port: int, body: bytes, until: float, waits: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        waits.append(time.perf_counter() - began)
    writer.close()


async def _round(port: int, body: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second, and 99th percentile of the latency in milliseconds."""
    waits: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_loop(port, body, until, waits) for _ in range(connections)))
    return len(waits) / seconds, statistics.quantiles(waits, n=100)[98] * 1000


def _lay_out(directory: Path, rounds: int) -> None:
    """Write the bundle cache of a restarted predictor, so that no registry is needed."""
    cache = BundleCache(directory)
    with cache.draft() as draft:
        model = train(draft / "bundle", rounds)
        version = ModelVersion("house-price", "1", "bench", {"manifest_sha256": model.sha256}, "")
        cache.keep(version, draft / "bundle")
    cache.add_served(version)


def bench(connections: int, seconds: float, rounds: int) -> None:
    """Measure one listing and a hundred, with and without the prediction log, and an echo of one."""
    with tempfile.TemporaryDirectory() as name, LocalPlatform(Path(name)) as local:
        folder = Path(name)
        _lay_out(folder / "bundles", rounds)
        local.mlflow_url = NOWHERE
        Ledger(local.database("ledger")).ensure_schema()
        urls = {}
        for log in ("true", "false"):
            urls[log] = local.start_predictor(poll_seconds="3600", prediction_log=log)
            wait_for("the model", lambda url=urls[log]: httpx.get(f"{url}/health/ready").status_code == 200, 30)
        echo_port = free_port()
        gunicorn = local._gunicorn("predictor", echo_port)
        local.start(
            "echo",
            [*gunicorn[:-1], "tests.bench.serving_quick:echo"],
            f"http://127.0.0.1:{echo_port}/",
            {"PYTHONPATH": ROOT},
        )
        port, unlogged = (int(url.rpartition(":")[2]) for url in urls.values())
        one, hundred = json.dumps(EXAMPLE).encode(), json.dumps([EXAMPLE] * 100).encode()
        cases = {
            "echo": (echo_port, one),
            "one listing": (port, one),
            "one, not logged": (unlogged, one),
            "100 listings": (port, hundred),
            "100, not logged": (unlogged, hundred),
        }
        seen: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for _ in range(3):
            for case, (at, body) in cases.items():
                seen[case].append(asyncio.run(_round(at, body, connections, seconds)))
        base = statistics.median(rate for rate, _ in seen["echo"])
        for case, figures in seen.items():
            rate = statistics.median(rate for rate, _ in figures)
            p99 = statistics.median(wait for _, wait in figures)
            say(f"{case:<16} {rate:8,.0f} requests/s   p99 {p99:6.1f} ms   {rate / base:6.1%} of the echo")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving_quick", description=__doc__)
    parser.add_argument("--connections", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3, help="seconds of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="trees of the model (default: %(default)s)")
    options = parser.parse_args()
    bench(options.connections, options.seconds, options.rounds)


if __name__ == "__main__":
    main(_main)
