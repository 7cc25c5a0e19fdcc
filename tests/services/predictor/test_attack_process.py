"""Large lists and slow senders against a real process: memory stays within the pod's limit, and others get answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from predictor.pricing.listing import EXAMPLE
from tests.kit.attacks import CLIENTS, Singles, attack
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

from .conftest import keep_on_disk, worker_of

MEBIBYTE = 2**20
POD_LIMIT, MASTER = 512, 40  # MiB: fastapi.resources.limits.memory, and gunicorn's master process
BODY_SECONDS = 3


@pytest.fixture
def platform(tmp_path: Path, models: tuple[Model, Model]) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path / "attack") as local:
        keep_on_disk(local, models[0])
        new_ledger(local, "ledger")
        yield local


@pytest.mark.services
@pytest.mark.timeout(600)
def test_single_listings_are_answered_during_an_attack_within_the_memory_of_the_pod(platform: LocalPlatform) -> None:
    url = platform.start_predictor(poll_seconds="3600", body_seconds=str(BODY_SECONDS))
    wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 20)
    singles = Singles()
    with attack(url) as attacked, httpx.Client(base_url=url, timeout=60) as client:
        while attacked.lists_left() or attacked.slow[408] < CLIENTS:
            singles.ask(client)
            time.sleep(0.05)
        short = client.post("/predict", json=[EXAMPLE] * 100)  # while the slow senders hold their connections
        assert short.status_code == 200, short.text
        text = client.get("/metrics").text
    lists, slow = attacked.lists, attacked.slow
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker_of(platform)}/status").read_text())[0]) // 1024
    print(f"lists {dict(lists)}, slow {dict(slow)}, {singles}, peak {peak} MiB")
    assert set(lists) <= {200, 408, 503}, "408: this machine was too busy to send the list in time"
    assert lists[200] >= 3, "some lists are priced"
    assert set(slow) <= {408, 503}, "503: the declared length did not fit beside the lists"
    assert set(singles.statuses) == {200}, "every single listing has a price"
    assert peak + MASTER < POD_LIMIT
    assert 'house_requests_refused_total{reason="slow_body"} 0.0' not in text
