"""Large lists and slow senders against a real process: memory stays within the pod's limit, and others get answers."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from predictor.pricing.listing import EXAMPLE
from predictor.settings import PredictorSettings
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

from .conftest import keep_on_disk, worker_of

CLIENTS = 64
MEBIBYTE = 2**20
POD_LIMIT, MASTER = 512, 40  # MiB: fastapi.resources.limits.memory, and gunicorn's master process
BODY_SECONDS = 3


@pytest.fixture
def platform(tmp_path: Path, models: tuple[Model, Model]) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path / "attack") as local:
        keep_on_disk(local, models[0])
        new_ledger(local, "ledger")
        yield local


def largest_list() -> bytes:
    """A valid list with the largest number of listings and of bytes."""
    defaults = PredictorSettings.model_fields
    number, size = defaults["max_listings"].default, defaults["max_body_bytes"].default
    bare = len(json.dumps([EXAMPLE | {"notes": ""}] * number))
    body = json.dumps([EXAMPLE | {"notes": "x" * ((size - bare) // number)}] * number).encode()
    assert 0.99 * size < len(body) <= size
    return body


@pytest.mark.services
@pytest.mark.timeout(600)
def test_single_listings_are_answered_during_an_attack_within_the_memory_of_the_pod(platform: LocalPlatform) -> None:
    url = platform.start_predictor(poll_seconds="3600", body_seconds=str(BODY_SECONDS))
    wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 20)
    body, stopped = largest_list(), threading.Event()
    lists: Counter[int] = Counter()
    slow: Counter[int] = Counter()
    threads = [threading.Thread(target=send_list, args=(url, body, lists)) for _ in range(CLIENTS)]
    threads += [threading.Thread(target=drip, args=(url, len(body), slow, stopped)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    singles: Counter[int] = Counter()
    longest = 0.0
    with httpx.Client(base_url=url, timeout=60) as client:
        while any(thread.is_alive() for thread in threads[:CLIENTS]) or slow[408] < CLIENTS:
            began = time.monotonic()
            singles[client.post("/predict", json=EXAMPLE).status_code] += 1
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.05)
        short = client.post("/predict", json=[EXAMPLE] * 100)  # while the slow senders hold their connections
        assert short.status_code == 200, short.text
        text = client.get("/metrics").text
    stopped.set()
    for thread in threads:
        thread.join()
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker_of(platform)}/status").read_text())[0]) // 1024
    print(f"lists {dict(lists)}, slow {dict(slow)}, single {dict(singles)}, longest {longest:.2f} s, peak {peak} MiB")
    assert set(lists) <= {200, 408, 503}, "408: this machine was too busy to send the list in time"
    assert lists[200] >= 3, "some lists are priced"
    assert set(slow) <= {408, 503}, "503: the declared length did not fit beside the lists"
    assert set(singles) == {200}, "every single listing has a price"
    assert peak + MASTER < POD_LIMIT
    assert 'house_requests_refused_total{reason="slow_body"} 0.0' not in text


def send_list(url: str, body: bytes, statuses: Counter[int]) -> None:
    statuses[httpx.post(f"{url}/predict", content=body, timeout=500).status_code] += 1


def drip(url: str, length: int, statuses: Counter[int], stopped: threading.Event) -> None:
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
