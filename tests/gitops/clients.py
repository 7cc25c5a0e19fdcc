"""Clients that ask the predictor for prices without pause, while something is done to the platform."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

import httpx
import pytest

from ci.example import LISTING
from ci.kube import PLATFORM, get


def service_url(name: str = "fastapi", port: int = 8000) -> str:
    """A Service's own address, which balances over its pods; a tunnel would hold on to one pod.

    Skips the test where this machine has no route to Services: the one-node cluster's has.
    """
    url = f"http://{get('-n', PLATFORM, 'service', name)['spec']['clusterIP']}:{port}"
    try:
        httpx.get(url, timeout=3)
    except httpx.TransportError as away:
        pytest.skip(f"this machine does not reach Services of the cluster: {away!r}")
    return url


class Clients:
    """Threads that each send a request, wait for its answer, pause, and send the next; nothing is tried twice.

    Half of them keep their connection, as applications do; half open one per request.
    """

    def __init__(self, threads: int = 4, pause: float = 0.05, url: str = "") -> None:
        """Nothing is sent before `with`; `url` is the predictor's, else that of its Service."""
        self._url = url or service_url()
        self.pause = pause  # seconds between an answer and the next request; may change at any time
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(threads)]
        self.answered: Counter[str] = Counter()  # by the model's version
        self.prices: Counter[float] = Counter()  # of the one listing that all ask for
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds

    def __enter__(self) -> Clients:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; requests on their way are waited for."""
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, keep: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep else 0)
        with httpx.Client(base_url=self._url, limits=limits, timeout=10) as client:
            while not self._end.is_set():
                began = time.monotonic()
                try:
                    answer = client.post("/predict", json=LISTING)
                    if answer.status_code == 200:
                        told = answer.json()
                        self.answered[told["model_version"]] += 1
                        self.prices[told["price"]] += 1
                    else:
                        self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                except httpx.TransportError as broken:
                    self.failures.append(f"{'kept' if keep else 'new'} connection: {broken!r}")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self._end.wait(self.pause)

    def __str__(self) -> str:
        """Requests, failures and the slowest answer."""
        by_version = ", ".join(f"{count:,} by version {version}" for version, count in sorted(self.answered.items()))
        total = sum(self.answered.values()) + len(self.failures)
        return f"{total:,} requests: {by_version}; {len(self.failures)} failed; slowest {self.slowest:.2f} s"
