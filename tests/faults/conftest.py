"""A freshly installed platform with synthetic batches for tests that kill pods, and a data source for tests of data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.deploy import platform, runs, workloads
from ci.deploy.runs import Airflow
from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from tests.kit import local_datasource
from tests.kit.world import World

NUMBERS = (0, 1, 2, 3, 4, 5)  # batches of `source`
BATCHES = (0, 1, 2)  # each of them leads to a training, in any order


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """Airflow of an empty platform whose data source has `BATCHES`."""
    platform.remove()
    batches = r"\,".join(map(str, BATCHES))  # in helm's --set, a comma without a backslash begins the next value
    reject_all = "airflow.pipeline.config.minMaeGain=0.99"  # every challenger after the first champion is rejected
    platform.install("kind", [f"datasource.config.batches={batches}", reject_all])
    workloads.wait_ready()
    with runs.airflow() as client:
        yield client


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a data source with small versions of all batches, which can produce every fault."""
    settings = {"HOUSE_RECORDING_DIR": "", "SCALE": "0.05"}
    with local_datasource.serving(tmp_path_factory.mktemp("datasource"), ",".join(map(str, NUMBERS)), **settings):
        yield local_datasource.url()


@pytest.fixture(scope="module")
def undisturbed(source: str, local: LocalPlatform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checksum of all batches, received once and in order by stages that run on this machine."""
    dsn = local.database("undisturbed")
    Ledger(dsn).ensure_schema()
    world = World(source, Ledger(dsn, run="run"), tmp_path_factory.mktemp("undisturbed"), dsn)
    world.drain()
    assert [batch.batch_number for batch in world.usable()] == list(NUMBERS)
    world.restart()
    return world.checksum()
