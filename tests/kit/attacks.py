"""Hostile clients of the price service: large lists, and senders that never finish."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from predictor.pricing.listing import EXAMPLE
from predictor.settings import PredictorSettings

CLIENTS = 64  # of each kind


def largest_list() -> bytes:
    """A valid list with the largest number of listings and of bytes."""
    defaults = PredictorSettings.model_fields
    number, size = defaults["max_listings"].default, defaults["max_body_bytes"].default
    bare = len(json.dumps([EXAMPLE | {"notes": ""}] * number))
    body = json.dumps([EXAMPLE | {"notes": "x" * ((size - bare) // number)}] * number).encode()
    assert 0.99 * size < len(body) <= size
    return body


@dataclass
class Attack:
    """Counts the statuses that the hostile clients got. `lists_left` are the lists that have no answer yet."""

    lists: Counter[int] = field(default_factory=Counter)
    slow: Counter[int] = field(default_factory=Counter)
    threads: list[threading.Thread] = field(default_factory=list)

    def lists_left(self) -> bool:
        """Whether a list waits for its answer."""
        return any(thread.is_alive() for thread in self.threads)


@contextmanager
def attack(url: str) -> Iterator[Attack]:
    """Send the largest list from many clients at once. As many others send a byte now and then until the block ends."""
    body, stopped, made = largest_list(), threading.Event(), Attack()
    made.threads += [threading.Thread(target=_send_list, args=(url, body, made.lists)) for _ in range(CLIENTS)]
    slow = [threading.Thread(target=_drip, args=(url, len(body), made.slow, stopped)) for _ in range(CLIENTS)]
    for thread in (*made.threads, *slow):
        thread.start()
    try:
        yield made
    finally:
        stopped.set()
        for thread in (*made.threads, *slow):
            thread.join()


@dataclass
class Singles:
    """Statuses of requests for one price, and the seconds of the slowest one."""

    statuses: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0

    def ask(self, client: httpx.Client) -> None:
        """Ask for one price."""
        began = time.monotonic()
        self.statuses[client.post("/predict", json=EXAMPLE).status_code] += 1
        self.longest = max(self.longest, time.monotonic() - began)


def _send_list(url: str, body: bytes, statuses: Counter[int]) -> None:
    statuses[httpx.post(f"{url}/predict", content=body, timeout=500).status_code] += 1


def _drip(url: str, length: int, statuses: Counter[int], stopped: threading.Event) -> None:
    """Declare a large body and send one byte now and then; connect again when the server has closed."""
    address = urlsplit(url)
    while not stopped.is_set():
        answer = b""
        with (
            suppress(ConnectionError),  # the server closed the connection at the moment when a byte was sent
            socket.create_connection((str(address.hostname), address.port or 80), timeout=60) as connection,
        ):
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n[" % length)
            connection.settimeout(0.2)
            while not answer and not stopped.is_set():
                try:
                    answer = connection.recv(1000)
                except TimeoutError:
                    connection.sendall(b" ")
        if answer:
            statuses[int(answer.split()[1])] += 1
