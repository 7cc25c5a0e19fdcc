"""Faults of the data API during runs on the cluster. In the end, the stored data is the same as without faults.

Prints the calls, batches and gaps in the ledger after each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import httpx
import pytest

from ci.common.console import Failure, say
from ci.deploy import platform, runs, workloads
from ci.deploy.runs import Airflow
from tests.kit import local_datasource
from tests.kit.platform_data import ledger, stored_checksum
from tests.kit.world import WHO

pytestmark = pytest.mark.e2e

TIMEOUT = 3  # seconds without an answer after which fetch gives up
# The order matters: there are only six batches, and each fault must meet a batch that is not stored yet. When the call
# is refused, the data has come to its end, so that lost batches are fetched again.
FAULTS: dict[str, dict[str, Any]] = {
    "truncated JSON": {"kind": "truncated"},
    "time-out after the cursor moved": {"kind": "timeout", "seconds": TIMEOUT + 2},
    "wrong schema": {"kind": "schema"},
    "repeated batch": {"kind": "repeat"},
    "500": {"kind": "error"},
    "delay": {"kind": "delay", "seconds": 1},
}


@pytest.fixture(scope="module")
def airflow(source: str) -> Iterator[Airflow]:
    """Airflow of an empty platform that uses the data source on this machine."""
    platform.remove()
    timeout = f"airflow.pipeline.config.dataApiTimeoutSeconds={TIMEOUT}"
    platform.install("kind", [*local_datasource.values(), timeout, "airflow.pipeline.config.minBatchRows=500"])
    workloads.wait_ready()
    with runs.airflow() as client:
        yield client


def ledger_row(calls_before: int) -> str:
    """A row of the printed table: new calls, batches with their states, gaps."""
    calls = ledger(f"select outcome, batch_number from ledger.calls where id > {calls_before} order by id")  # noqa: S608
    batches = ledger("select batch_number, state from ledger.batches order by received_at")
    gaps = ledger("select batch_number from ledger.gaps order by 1")
    cells = (
        ", ".join(" ".join(call).strip() for call in calls),
        ", ".join(" ".join(batch) for batch in batches),
        ", ".join(number for [number] in gaps) or "none",
    )
    return " | ".join(cells)


def last_call() -> int:
    """Id of the last call in the ledger."""
    return int(ledger("select coalesce(max(id), 0) from ledger.calls")[0][0])


def test_faults_do_not_change_the_stored_data(undisturbed: str, source: str, airflow: Airflow) -> None:
    def report(name: str, run: Callable[[], object]) -> None:
        before = last_call()
        run()
        say(f"| {name} | {ledger_row(before)} |")

    def run_with_fault(name: str) -> None:
        httpx.post(f"{source}/admin/faults", json=FAULTS[name], timeout=20).raise_for_status()
        failure = pytest.raises(Failure, match="the schema of the data API has changed")
        with failure if name == "wrong schema" else nullcontext():  # this fault needs a person, so the run fails
            runs.run_once(airflow)
        assert httpx.get(f"{source}/admin/faults", timeout=20).json() == [], "the run did not meet the fault"

    runs.run_once(airflow)  # without a fault; creates the tables of the ledger
    say(f"| none | {ledger_row(0)} |")
    for name in FAULTS:
        report(name, partial(run_with_fault, name))
    report("none, until the end of data", lambda: runs.drain(airflow))
    assert ledger("select batch_number from ledger.gaps") == []
    assert stored_checksum() == undisturbed
    httpx.get(f"{source}/restart_data_generation", params=WHO, timeout=20).raise_for_status()
    report("restart", lambda: runs.drain(airflow))
    assert stored_checksum() == undisturbed
    wrong = "select batch_number from ledger.batches where rows <> valid + quarantined + duplicates"
    assert ledger(wrong) == []
