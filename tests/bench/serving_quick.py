"""Measures the prices per second of one predictor process: fast path, FastAPI's route, lists, an echo.

`python -m tests.bench.serving_quick`: closed loop over local connections, median of alternating rounds. The client
runs on the same machine as the servers. Only the ratios can be compared between machines.
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

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
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


async def route(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The predictor without its fast path, which leaves bodies in several parts to the route."""
    from predictor.app import app

    parts: list[dict[str, Any]] = []

    async def in_two_parts() -> dict[str, Any]:
        if parts:
            return parts.pop()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            parts.append({"type": "http.request", "body": b"", "more_body": False})
            message = {**message, "more_body": True}
        return message

    await app(scope, in_two_parts, send)


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


def _lay_out(directory: Path, trees: int) -> None:
    """Write the bundle cache of a restarted predictor, so that no registry is needed."""
    cache = BundleCache(directory)
    with cache.draft() as draft:
        model = train(draft / "bundle", trees)
        version = ModelVersion("house-price", "1", "bench", {"manifest_sha256": model.sha256}, "")
        cache.keep(version, draft / "bundle")
    cache.add_served(version)


def bench(connections: int, seconds: float, rounds: int, trees: int) -> None:
    """Measure one listing by both paths, lists, and an echo of one listing."""
    with tempfile.TemporaryDirectory() as name, LocalPlatform(Path(name)) as local:
        _lay_out(local.folder / "bundles", trees)
        local.mlflow_url = NOWHERE
        Ledger(local.database("ledger")).ensure_schema()

        def gunicorn(port: int, application: str) -> list[str]:
            return [*local._gunicorn("predictor", port)[:-1], f"tests.bench.serving_quick:{application}"]

        def start(log: bool = True, application: str | None = None) -> int:
            port = free_port()
            command = gunicorn(port, application) if application else None
            settings = {"poll_seconds": "3600", "prediction_log": str(log).lower(), "pythonpath": ROOT}
            url = local.start_predictor(port, command, **settings)
            wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 30)
            return port

        logged, unlogged = start(), start(log=False)
        by_route = start(log=False, application="route")
        echo_port = free_port()
        local.start("echo", gunicorn(echo_port, "echo"), f"http://127.0.0.1:{echo_port}/", {"PYTHONPATH": ROOT})
        one, hundred = json.dumps(EXAMPLE).encode(), json.dumps([EXAMPLE] * 100).encode()
        cases = {
            "echo": (echo_port, one),
            "one listing": (logged, one),
            "one, not logged": (unlogged, one),
            "one by the route, not logged": (by_route, one),
            "list of one, not logged": (unlogged, json.dumps([EXAMPLE]).encode()),
            "100 listings": (logged, hundred),
            "100, not logged": (unlogged, hundred),
        }
        seen: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for case, (port, body) in cases.items():
                seen[case].append(asyncio.run(_round(port, body, connections, seconds)))
        base = statistics.median(rate for rate, _ in seen["echo"])
        for case, figures in seen.items():
            rate = statistics.median(rate for rate, _ in figures)
            p99 = statistics.median(wait for _, wait in figures)
            say(f"{case:<28} {rate:8,.0f} requests/s   p99 {p99:6.1f} ms   {rate / base:6.1%} of the echo")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving_quick", description=__doc__)
    parser.add_argument("--connections", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3, help="seconds of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all cases (default: %(default)s)")
    parser.add_argument("--trees", type=int, default=1500, help="trees of the model (default: %(default)s)")
    options = parser.parse_args()
    bench(options.connections, options.seconds, options.rounds, options.trees)


if __name__ == "__main__":
    main(_main)
