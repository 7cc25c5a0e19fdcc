"""Each fault of the data API meets a run on the cluster: what is stored in the end is what an undisturbed one gives.

Prints what the ledger holds after each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import httpx
import pytest

from ci import platform, runs
from ci.console import Failure, say
from ci.kube import api_endpoint
from ci.local import LocalPlatform
from ci.runs import Airflow
from core.ledger import Ledger
from tests.e2e import datasource
from tests.gitops.data import ledger, storage
from tests.services.pipeline.world import WHO, World, checksum

pytestmark = pytest.mark.e2e

NUMBERS = (0, 1, 2, 3, 4, 5)
TIMEOUT = 3  # seconds of silence after which fetch gives up
# in this order: six batches are all there are, and each fault is to meet one that is not stored yet; by the refused
# call the data has come to its end, so that what was lost is fetched again
FAULTS: dict[str, dict[str, Any]] = {
    "truncated JSON": {"kind": "truncated"},
    "time-out after the cursor moved": {"kind": "timeout", "seconds": TIMEOUT + 2},
    "wrong schema": {"kind": "schema"},
    "repeated batch": {"kind": "repeat"},
    "500": {"kind": "error"},
    "delay": {"kind": "delay", "seconds": 1},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a data source that has all batches, small ones, and every fault."""
    settings = {"HOUSE_RECORDING_DIR": "", "SCALE": "0.05"}
    with datasource.serving(tmp_path_factory.mktemp("datasource"), ",".join(map(str, NUMBERS)), **settings):
        yield f"http://{api_endpoint()[0]}:{datasource.DATA_PORT}"


@pytest.fixture(scope="module")
def undisturbed(source: str, local: LocalPlatform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checksum of all batches, each received once and in order, by stages that run on this machine."""
    dsn = local.database("undisturbed")
    Ledger(dsn).ensure_schema()
    world = World(source, Ledger(dsn, run="run"), tmp_path_factory.mktemp("undisturbed"), dsn)
    world.drain()
    assert [batch.batch_number for batch in world.usable()] == list(NUMBERS)
    world.restart()
    return world.checksum()


@pytest.fixture(scope="module")
def airflow(source: str) -> Iterator[Airflow]:
    """Airflow of a platform without data that asks the data source on this machine."""
    platform.remove()
    timeout = f"airflow.pipeline.config.dataApiTimeoutSeconds={TIMEOUT}"
    platform.install("kind", [*datasource.values(), timeout, "airflow.pipeline.config.minBatchRows=500"])
    platform.wait_ready()
    with runs.airflow() as client:
        yield client


def stored() -> str:
    """Checksum of what the cluster holds of usable batches."""
    usable = "select batch_number, raw_key from ledger.batches where state in ('split', 'used') order by 1"
    with storage() as client:

        def read(key: str) -> bytes:
            answer = client.get_object("house-data", key)
            try:
                return answer.read()
            finally:
                answer.close()
                answer.release_conn()

        return checksum(((int(number), key) for number, key in ledger(usable)), read)


def told(calls_before: int) -> str:
    """A row of the table: calls since, batches with their states, gaps."""
    calls = ledger(f"select outcome, batch_number from ledger.calls where id > {calls_before} order by id")  # noqa: S608
    batches = ledger("select batch_number, state from ledger.batches order by received_at")
    gaps = ledger("select batch_number from ledger.gaps order by 1")
    cells = (
        ", ".join(" ".join(one).strip() for one in calls),
        ", ".join(" ".join(one) for one in batches),
        ", ".join(number for [number] in gaps) or "none",
    )
    return " | ".join(cells)


def calls() -> int:
    return int(ledger("select coalesce(max(id), 0) from ledger.calls")[0][0])


def test_what_is_stored_does_not_tell_what_went_wrong(undisturbed: str, source: str, airflow: Airflow) -> None:
    def one(name: str, run: Callable[[], object]) -> None:
        before = calls()
        run()
        say(f"| {name} | {told(before)} |")

    def meet(name: str) -> None:
        httpx.post(f"{source}/admin/faults", json=FAULTS[name], timeout=20).raise_for_status()
        red = pytest.raises(Failure, match="the data API's schema has changed")
        with red if name == "wrong schema" else nullcontext():  # that is for a person to see
            runs.run_once(airflow)
        assert httpx.get(f"{source}/admin/faults", timeout=20).json() == [], "the run met no fault"

    runs.run_once(airflow)  # undisturbed; it makes the ledger's tables
    say(f"| none | {told(0)} |")
    for name in FAULTS:
        one(name, partial(meet, name))
    one("none, until the end of data", lambda: runs.drain(airflow))
    assert ledger("select batch_number from ledger.gaps") == []
    assert stored() == undisturbed
    httpx.get(f"{source}/restart_data_generation", params=WHO, timeout=20).raise_for_status()
    one("restart", lambda: runs.drain(airflow))
    assert stored() == undisturbed
    wrong = "select batch_number from ledger.batches where rows <> valid + quarantined + duplicates"
    assert ledger(wrong) == []
