"""One platform with synthetic batches, installed from nothing, for all tests of what may be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci import platform, runs
from ci.runs import Airflow

BATCHES = (0, 1, 2)  # each of them is a reason to train, whichever comes first


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """Airflow of a platform without data, whose data source has `BATCHES`."""
    platform.remove()
    batches = r"\,".join(map(str, BATCHES))  # helm's --set takes a bare comma for the next value
    never = "airflow.pipeline.config.minMaeGain=0.99"  # after the first champion every challenger is rejected
    platform.install("kind", [f"datasource.config.batches={batches}", never])
    platform.wait_ready()
    with runs.airflow() as client:
        yield client
