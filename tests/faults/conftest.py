"""One freshly installed platform with synthetic batches, for all tests that kill pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.deploy import platform, runs
from ci.deploy.runs import Airflow

BATCHES = (0, 1, 2)  # each of them leads to a training, in any order


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """Airflow of an empty platform whose data source has `BATCHES`."""
    platform.remove()
    batches = r"\,".join(map(str, BATCHES))  # in helm's --set, a comma without a backslash begins the next value
    reject_all = "airflow.pipeline.config.minMaeGain=0.99"  # every challenger after the first champion is rejected
    platform.install("kind", [f"datasource.config.batches={batches}", reject_all])
    platform.wait_ready()
    with runs.airflow() as client:
        yield client
