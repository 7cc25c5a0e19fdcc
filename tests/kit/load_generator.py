"""Load generator: requests prices from a predictor in a loop and counts the answers.

The source of this module also runs as a program in a pod, so it imports only httpx and the standard library:
`python load_generator.py URL THREADS PAUSE SECONDS LISTING`. It prints its counts as a line of JSON every second. It
ends after SECONDS, or when the file /control/end appears. A number in the file /control/pause sets the pause in
seconds. Files control it because a connection to the pod does not outlive every change that a test makes.
"""

from __future__ import annotations

import errno
import itertools
import json
import pathlib
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any

import httpx

create_connection = socket.create_connection
source_ports = itertools.cycle(range(10_000, 65_536))


def connect_from_unused_port(address: tuple[str, int], timeout: float, source_address: None) -> socket.socket:
    """Open a connection from a source port that no connection of the last minutes had.

    Linux keeps the address translation of a failed connection for 120 s. A new connection from the same source port
    would be sent to the same lost pod, although the Service does not list it any more.
    """
    while True:
        try:
            return create_connection(address, timeout, ("", next(source_ports)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


class LoadGenerator:
    """Threads that each send a request, wait for the answer, pause, and send the next. No request is retried.

    Half of the threads keep their connection, as applications do. The others open a connection for each request.
    """

    def __init__(self, url: str, threads: int, listing: dict[str, Any], pause: float) -> None:
        """Prepare the threads. `start` sends the first request."""
        self.url = url
        self.listing = listing
        self.pause = pause  # seconds between an answer and the next request; can be changed at any time
        self.answered: Counter[str] = Counter()  # by the model's version
        self.prices: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number % 2 == 0,)) for number in range(threads)]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all threads after they have received the answers to their requests."""
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def counts(self) -> dict[str, Any]:
        """The counts so far."""
        return {
            "answered": dict(self.answered),
            "prices": dict(self.prices),
            "failures": list(self.failures),
            "slowest": self.slowest,
        }

    def _send(self, keep: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep else 0)
        with httpx.Client(base_url=self.url, limits=limits, timeout=10) as client:
            while not self._end.is_set():
                began = time.monotonic()
                try:
                    answer = client.post("/predict", json=self.listing)
                    if answer.status_code == 200:
                        body = answer.json()
                        self.answered[body["model_version"]] += 1
                        self.prices[repr(body["price"])] += 1
                    else:
                        self.failures.append(f"{time.strftime('%X')} {answer.status_code} {answer.text[:200]}")
                except httpx.TransportError as broken:
                    kind = "kept" if keep else "new"
                    took = time.monotonic() - began
                    self.failures.append(f"{time.strftime('%X')} after {took:.1f} s, {kind} connection: {broken!r}")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self._end.wait(self.pause)


CONTROL = pathlib.Path("/control")


def _main() -> None:
    url, threads, pause, seconds, listing = sys.argv[1:]
    socket.create_connection = connect_from_unused_port  # httpx connects with it
    load = LoadGenerator(url, int(threads), json.loads(listing), float(pause))
    began = time.monotonic()
    load.start()
    while not (CONTROL / "end").exists() and not 0 < float(seconds) < time.monotonic() - began:
        if (CONTROL / "pause").exists():
            load.pause = float((CONTROL / "pause").read_text() or pause)
        print(json.dumps(load.counts()), flush=True)
        time.sleep(1)
    load.stop()
    print(json.dumps(load.counts()), flush=True)


if __name__ == "__main__":
    _main()
